from __future__ import annotations

import os
from pathlib import Path

import pytest

from simulators.delivery import bring, check_target, keep
from simyard.errors import InvalidInput
from storage.errors import StorageUnavailable
from storage.folder import Folder
from storage.objects import open_store


def kept(work: Path, target: Path) -> None:
    keep(work, Folder(work).walk(), {"stdout.log": work.parent / "log"}, target)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "log").write_bytes(b"said\n")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_files_come_with_their_modes_and_links_inside_as_what_they_lead_to(tmp_path: Path, work: Path) -> None:
    source = tmp_path / "é \n source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (source / "sub" / "run.sh").chmod(0o755)
    (source / "again").symlink_to("sub")
    assert bring(str(source), work) == ("again/run.sh", "sub/run.sh")
    assert (work / "again" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert not (work / "again").is_symlink()


def test_objects_of_a_storage_come_by_their_keys(tmp_path: Path, work: Path) -> None:
    uri = (tmp_path / "store").as_uri()
    open_store(uri).put("a b/c", b"1")
    assert bring(uri, work) == ("a b/c",)
    assert (work / "a b" / "c").read_bytes() == b"1"


def test_a_storage_without_objects_is_refused(tmp_path: Path, work: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        bring((tmp_path / "store").as_uri(), work)
    assert refused.value.field == "input"


def test_a_target_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "nothing://x"):
        with pytest.raises(InvalidInput) as refused:
            check_target(target)
        assert refused.value.field == "output"
    check_target(str(tmp_path / "not" / "yet"))


def test_a_link_of_an_earlier_run_does_not_lead_out_of_the_target(tmp_path: Path, work: Path) -> None:
    (tmp_path / "outside").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").symlink_to(tmp_path / "outside")
    (work / "a").mkdir()
    (work / "a" / "x").write_text("x")
    with pytest.raises(StorageUnavailable):
        kept(work, target)
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_earlier_result_is_replaced_whole(tmp_path: Path, work: Path) -> None:
    target = tmp_path / "target"
    for text in ("long first", "2nd"):
        (work / "x").write_text(text)
        (work / "link").unlink(missing_ok=True)
        (work / "link").symlink_to("x")
        os.utime(work / "x", ns=(10**18, 10**18))
        kept(work, target)
    assert (target / "x").read_text() == "2nd"
    assert (target / "x").stat().st_mtime_ns == 10**18
    assert (target / "link").read_text() == "2nd"
    assert (target / ".simyard" / "stdout.log").read_bytes() == b"said\n"


def test_what_is_simyards_own_cannot_be_forged(tmp_path: Path, work: Path) -> None:
    (work / ".simyard").mkdir()
    (work / ".simyard" / "stdout.log").write_text("forged")
    kept(work, tmp_path / "target")
    assert (tmp_path / "target" / ".simyard" / "stdout.log").read_bytes() == b"said\n"
    assert ".simyard/stdout.log" in (tmp_path / "target" / ".simyard" / "not-stored.txt").read_text()
