from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simyard.files import check_relative
from storage.errors import InvalidKey
from storage.paths import Paths, check_key

HASH = "0123456789abcdef" * 4


def test_the_layout_is_the_documented_one() -> None:
    assert Paths.input(HASH) == f"inputs/{HASH}"
    assert Paths.upload_part(HASH, 1) == f"uploads/{HASH}/part-00001"
    assert Paths.attempt("t1", 2) == "tasks/t1/2"
    assert Paths.manifest("t1", 2) == "tasks/t1/2/manifest.parquet"
    assert Paths.pack("t1", 2, 3) == "tasks/t1/2/pack-0003.zip"
    assert Paths.file("t1", 2, "a b/ü.bin") == "tasks/t1/2/files/a b/ü.bin"
    assert Paths.log("t1", 2, "stdout.log") == "tasks/t1/2/logs/stdout.log"
    assert Paths.table("summary", "swmm", "p", "t1") == "tables/summary/simulator=swmm/project=p/task=t1.parquet"


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a\n", "../../etc", "ä", "A" * 64, HASH[:-1], HASH + "\n"])
def test_what_is_no_hash_or_name_makes_no_key(bad: str) -> None:
    with pytest.raises(InvalidKey):
        Paths.input(bad)
    if bad != "A" * 64 and HASH[:-1] not in bad:
        with pytest.raises(InvalidKey):
            Paths.attempt(bad, 1)
        with pytest.raises(InvalidKey):
            Paths.table(bad, "s", "p", "t")
        with pytest.raises(InvalidKey):
            Paths.log("t1", 1, bad)


@pytest.mark.parametrize("bad", ["../2/manifest.parquet", "/etc/passwd", "a/../../b", ""])
def test_a_manifest_cannot_name_objects_elsewhere(bad: str) -> None:
    with pytest.raises(InvalidKey):
        Paths.below("t1", 1, bad)


@given(st.text(min_size=1, max_size=300))
def test_every_valid_path_has_a_valid_key_of_its_own(path: str) -> None:
    try:
        check_relative(path)
    except ValueError:
        return
    key = Paths.file("t1", 1, path)
    assert check_key(key) == key
    assert Paths.file("t1", 1, path + "x") != key
