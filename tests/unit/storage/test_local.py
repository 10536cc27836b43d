from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import InvalidKey, InvalidStorage, StorageUnavailable
from storage.local import LocalStore
from storage.objects import is_on_this_machine, open_store


def test_unfinished_writes_are_invisible_and_leave_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    seen: list[list[str]] = []

    def pieces() -> Iterator[bytes]:
        yield b"half"
        seen.append([info.key for info in store.list("")])
        yield b"whole"

    store.put("a/b", pieces())
    assert seen == [[]]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]
    with pytest.raises(InvalidKey):
        store.put(".unfinished/x", b"")


def test_a_write_is_flushed_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace, link = os.fsync, Path.replace, os.link

    def fsync(descriptor: int) -> None:
        done.append("flush " + ("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"))
        flush(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        named = replace(self, target)
        done.append("name")
        return named

    def linked(source: Path, target: Path) -> None:
        link(source, target)
        done.append("name")

    store = LocalStore(tmp_path)
    store.put("a/b/first", b"")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(os, "link", linked)
    for create in (True, False):
        done.clear()
        store.put(f"a/b/{create}", b"1", create=create)
        assert done == ["flush file", "name", "flush folder"]
    done.clear()
    store.put("a/new/x", b"1")
    assert done == ["flush file", "flush folder", "name", "flush folder"]


def test_a_key_and_a_longer_one_cannot_both_be_files(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"")
    with pytest.raises(InvalidKey):
        store.put("a/b", b"")
    store.put("c/d", b"")
    with pytest.raises(InvalidKey):
        store.put("c", b"")
    assert [info.key for info in store.list("")] == ["a", "c/d"]


def test_deleting_the_last_object_removes_its_folders(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b/c", b"")
    store.put("a/d", b"")
    store.delete(["a/b/c"])
    assert not (tmp_path / "a" / "b").exists()
    store.delete(["a/d"])
    assert tmp_path.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageUnavailable, InvalidKey)):
        LocalStore(tmp_path / "file").put("a", b"")


@pytest.mark.parametrize(
    "uri", ["", "folder", "/folder", "file://host/x", "file:///", "ftp://a/b", "s3://", "memory://"]
)
def test_what_names_no_storage_is_refused(uri: str) -> None:
    with pytest.raises(InvalidStorage):
        open_store(uri)


def test_a_uri_opens_the_same_folder_again(tmp_path: Path) -> None:
    odd = tmp_path / "100% 'ü' #?"
    LocalStore(odd).put("a", b"1")
    assert open_store(LocalStore(odd).uri).get("a") == b"1"
    assert open_store(odd.as_uri()).get("a") == b"1"


def test_a_local_store_brings_no_heavy_library_into_the_process(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from storage.objects import open_store\n"
        "from storage import inputs, outputs, manifest, reader, uploads, tables\n"
        "open_store(sys.argv[1])\n"
        "heavy = {'boto3', 'botocore', 'obstore', 'pyarrow', 'numpy', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path.as_uri()], check=True, env={**os.environ, "PYTHONPATH": ".:client"}
    )


def test_what_killed_writers_left_is_swept_after_a_day(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a", b"")
    for name, age in (("old", 100_000), ("new", 10)):
        (tmp_path / ".unfinished" / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(tmp_path / ".unfinished" / name, (then, then))
    LocalStore(tmp_path)
    assert [path.name for path in (tmp_path / ".unfinished").iterdir()] == ["new"]


def test_a_folder_is_on_this_machine_and_a_bucket_is_not(tmp_path: Path) -> None:
    assert [is_on_this_machine(uri) for uri in (tmp_path.as_uri(), "memory://m", "s3://bucket/prefix")] == [
        True,
        True,
        False,
    ]
