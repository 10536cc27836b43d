from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from simyard.files import InputFile, Staged
from storage.errors import DiskFull, InputDamaged, Stopped, StorageUnavailable, UnsafePath
from storage.inputs import put_input, stage
from storage.kept_inputs import KeptInputs
from storage.memory import MemoryStore
from storage.paths import Paths
from storage.retries import Retries


def _file(path: str, data: bytes, mode: int = 0o644) -> InputFile:
    return InputFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data), mode=mode)


def test_the_same_content_is_stored_once() -> None:
    store = MemoryStore()
    assert put_input(store, b"mesh") == put_input(store, b"mesh") == hashlib.sha256(b"mesh").hexdigest()
    assert len(list(store.list(""))) == 1


def test_one_content_under_two_names_is_two_files(tmp_path: Path) -> None:
    store = MemoryStore()
    put_input(store, b"x")
    stage(store, [_file("a", b"x", 0o400), _file("b/c", b"x")], tmp_path)
    (tmp_path / "b" / "c").write_bytes(b"changed by the simulation")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400
    assert store.get(Paths.input(hashlib.sha256(b"x").hexdigest())) == b"x"


def test_paths_that_leave_are_refused_even_when_nothing_checked_them(tmp_path: Path) -> None:
    evil = _file("a", b"").model_copy(update={"path": "../a"})
    with pytest.raises(UnsafePath):
        stage(MemoryStore(), [evil], tmp_path / "work")


def test_a_size_that_lies_is_damage(tmp_path: Path) -> None:
    store = MemoryStore()
    put_input(store, b"12345")
    for size in (4, 6):
        with pytest.raises(InputDamaged):
            stage(store, [_file("a", b"12345").model_copy(update={"size": size})], tmp_path)
    assert list(tmp_path.iterdir()) == []


class _Breaking(MemoryStore):
    """A store whose first answers break off in the middle."""

    breaks = 2

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = 1) -> Iterator[bytes]:
        def broken() -> Iterator[bytes]:
            yield b"12"
            raise StorageUnavailable

        if self.breaks > 0:
            self.breaks -= 1
            return broken()
        return super().stream(key, start, length)


def test_a_broken_download_is_begun_again(tmp_path: Path, patience: Retries) -> None:
    store = _Breaking()
    put_input(store, b"12345")
    stage(store, [_file("a", b"12345")], tmp_path, retries=patience)
    assert (tmp_path / "a").read_bytes() == b"12345"


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: Retries) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = MemoryStore()
    put_input(store, b"1")
    monkeypatch.setattr("storage.folder.os.write", full)
    with pytest.raises(DiskFull):
        stage(store, [_file("a", b"1")], tmp_path, retries=patience)
    assert list(tmp_path.iterdir()) == []


def test_staging_stops_when_told(tmp_path: Path) -> None:
    store = MemoryStore()
    put_input(store, b"1")
    with pytest.raises(Stopped):
        stage(store, [_file("a", b"1")], tmp_path, stopped=lambda: True)
    assert list(tmp_path.iterdir()) == []


class _Counting(MemoryStore):
    """A store that counts the bytes which are read of it."""

    read = 0

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = 1) -> Iterator[bytes]:
        for piece in super().stream(key, start, length):
            self.read += len(piece)
            yield piece


def test_a_machine_fetches_a_content_once_and_gives_each_task_files_of_its_own(tmp_path: Path) -> None:
    store, kept = _Counting(), KeptInputs(tmp_path / "inputs", 10**9)
    for data in (b"mesh", b"1"):
        put_input(store, data)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    files = [_file("a", b"mesh", 0o640), _file("b/c", b"mesh", 0o755)]
    assert stage(store, files, one, kept=kept) == Staged(fetched=4, kept=4)
    for path in ("a", "b/c"):
        (one / path).write_bytes(b"changed by the simulation")
    assert stage(store, [*files, _file("d", b"1")], two, kept=kept) == Staged(fetched=1, kept=8)
    assert [(two / path).read_bytes() for path in ("a", "b/c", "d")] == [b"mesh", b"mesh", b"1"]
    assert [(two / path).stat().st_mode & 0o777 for path in ("a", "b/c")] == [0o640, 0o755]
    assert store.read == 5


def test_without_a_place_to_keep_them_all_are_fetched(tmp_path: Path) -> None:
    store = MemoryStore()
    put_input(store, b"mesh")
    assert stage(store, [_file("a", b"mesh"), _file("b", b"mesh")], tmp_path) == Staged(fetched=8, kept=0)


def test_a_size_that_lies_finds_nothing_that_is_kept(tmp_path: Path) -> None:
    store, kept = MemoryStore(), KeptInputs(tmp_path / "inputs", 10**9)
    put_input(store, b"12345")
    stage(store, [_file("a", b"12345")], tmp_path, kept=kept)
    with pytest.raises(InputDamaged):
        stage(store, [_file("b", b"12345").model_copy(update={"size": 4})], tmp_path, kept=kept)


def test_what_is_kept_gives_way_before_a_disk_counts_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: Retries
) -> None:
    work, kept = tmp_path / "work", KeptInputs(tmp_path / "inputs", 10**9)
    work.mkdir()
    store = MemoryStore()
    put_input(store, b"old")
    put_input(store, b"new")
    stage(store, [_file("a", b"old")], work, kept=kept)

    [old] = (tmp_path / "inputs").glob("*/*")
    copy = os.copy_file_range

    def copied(*args: int, **more: int) -> int:
        if old.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(*args, **more)

    monkeypatch.setattr("storage.folder.os.copy_file_range", copied)
    stage(store, [_file("b", b"new")], work, kept=kept, retries=patience)
    assert (work / "b").read_bytes() == b"new"
