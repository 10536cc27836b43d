from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from simyard.files import InputFile
from storage.errors import DiskFull, InputDamaged, Stopped, StorageUnavailable, UnsafePath
from storage.inputs import put_input, stage
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
