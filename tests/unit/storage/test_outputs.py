from __future__ import annotations

import io
import os
import shutil
import socket
import zipfile
from pathlib import Path

import pytest

from simyard.files import Codec, EntryKind, ManifestEntry
from storage import outputs
from storage.errors import Stopped, StorageUnavailable
from storage.memory import MemoryStore
from storage.outputs import NOTES, store_outputs, take_stamps
from storage.paths import Paths
from storage.reader import read_entry
from storage.retries import Retries
from storage.stamps import Stamps
from tests.unit.storage.flaky import FlakyStore


def _store(store: MemoryStore, folder: Path, before: Stamps | None = None) -> dict[str, ManifestEntry]:
    found = store_outputs(store, "t", 1, folder, before, logs={}, retries=Retries(tries=3, sleep=lambda _: None))
    assert len({entry.path for entry in found}) == len(found)
    return {entry.path: entry for entry in found}


def _read(store: MemoryStore, entry: ManifestEntry) -> bytes:
    return b"".join(read_entry(store, "t", 1, entry))


def _notes(store: MemoryStore, entries: dict[str, ManifestEntry]) -> str:
    return _read(store, entries[NOTES]).decode()


def test_only_what_is_new_or_changed_is_stored(tmp_path: Path) -> None:
    for name in ("same", "grown", "rewritten", "touched", "replaced", "gone"):
        (tmp_path / name).write_bytes(b"before")
    (tmp_path / "link").symlink_to("same")
    before = take_stamps(tmp_path)
    with (tmp_path / "grown").open("ab") as file:
        file.write(b"more")
    info = (tmp_path / "rewritten").stat()
    (tmp_path / "rewritten").write_bytes(b"BEFORE")
    # Whoever sets the old time again still changes the ctime.
    os.utime(tmp_path / "rewritten", ns=(info.st_atime_ns, info.st_mtime_ns))
    (tmp_path / "other").write_bytes(b"before")
    (tmp_path / "other").replace(tmp_path / "replaced")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_bytes(b"")
    store = MemoryStore()
    found = _store(store, tmp_path, before)
    assert set(found) == {"grown", "rewritten", "replaced", "new"}
    assert _read(store, found["rewritten"]) == b"BEFORE"


def test_stamps_outlive_their_process(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / os.fsdecode(b"bad\xff\n")).write_bytes(b"1")
    before = take_stamps(folder)
    before.save(tmp_path / "stamps")
    assert Stamps.load(tmp_path / "stamps") == before
    assert _store(MemoryStore(), folder, Stamps.load(tmp_path / "stamps")) == {}


def test_links_are_kept_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "etc").symlink_to("/etc")
    (tmp_path / "broken").symlink_to("nothing")
    store = MemoryStore()
    found = _store(store, tmp_path)
    assert {path: entry.link for path, entry in found.items()} == {
        "passwd": "/etc/passwd",
        "etc": "/etc",
        "broken": "nothing",
    }
    assert list(store.list("")) == []


def test_what_is_no_file_is_named_in_a_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        (tmp_path / ".simyard").mkdir()
        (tmp_path / ".simyard" / "stdout.log").write_text("forged")
        (tmp_path / "file").write_bytes(b"1")
        store = MemoryStore()
        found = _store(store, tmp_path)
    assert set(found) == {"file", NOTES}
    notes = _notes(store, found)
    assert "pipe: " in notes
    assert "socket: " in notes
    assert ".simyard/stdout.log: " in notes


def test_names_that_are_not_utf8_stay_apart(tmp_path: Path) -> None:
    names = [b"a\xff", b"a%FF", b"a\xff%", b"\xc3\xbc", b"new\nline", b"back\\slash", b"'\"`$(x)", b"d\xfe/e\xfd"]
    (tmp_path / os.fsdecode(b"d\xfe")).mkdir()
    for number, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(b"%d" % number)
    store = MemoryStore()
    found = _store(store, tmp_path)
    assert {path: _read(store, entry) for path, entry in found.items()} == {
        "a%FF~": b"0",
        "a%FF": b"1",
        "a%FF%25": b"2",
        "ü": b"3",
        "new\nline": b"4",
        "back\\slash": b"5",
        "'\"`$(x)": b"6",
        "d%FE/e%FD": b"7",
    }


def test_packs_are_plain_zips_and_entries_point_into_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "_PACK", 50_000)
    monkeypatch.setattr(outputs, "_BIG", 30_000)
    data = {f"text{n}": b"words " * 2000 for n in range(9)} | {f"noise{n}": os.urandom(9_000) for n in range(9)}
    data["big"] = os.urandom(30_001)
    for name, body in data.items():
        (tmp_path / name).write_bytes(body)
    (tmp_path / "text0").chmod(0o751)
    store = MemoryStore()
    found = _store(store, tmp_path)
    assert set(found) == set(data)
    assert found["big"].object == "files/big"
    assert found["text0"].codec is Codec.DEFLATE
    assert found["text0"].mode == 0o751
    assert found["noise0"].codec is Codec.STORED
    packs = {entry.object for entry in found.values()} - {"files/big"}
    assert packs == {Paths.pack_name(n) for n in range(len(packs))}
    assert len(packs) > 2
    unpacked: dict[str, bytes] = {}
    for pack in packs:
        assert pack is not None
        with zipfile.ZipFile(io.BytesIO(store.get(Paths.below("t", 1, pack)))) as archive:
            unpacked |= {name: archive.read(name) for name in archive.namelist()}
    assert unpacked | {"big": data["big"]} == data
    assert {path: _read(store, entry) for path, entry in found.items()} == data


def test_logs_are_stored_so_that_any_offset_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"line\n" * 1000)
    (tmp_path / "large").write_bytes(b"line\n" * 1_000_000)
    logs = {"stdout.log": tmp_path / "small", "stderr.log": tmp_path / "large", "absent.log": tmp_path / "absent"}
    store = MemoryStore()
    (tmp_path / "empty").mkdir()
    found = {entry.path: entry for entry in store_outputs(store, "t", 1, tmp_path / "empty", None, logs=logs)}
    assert set(found) == {".simyard/stdout.log", ".simyard/stderr.log"}
    assert found[".simyard/stderr.log"].object == "logs/stderr.log"
    for entry in found.values():
        assert (entry.kind, entry.codec) == (EntryKind.LOG, Codec.STORED)
        assert b"".join(read_entry(store, "t", 1, entry, 7, 6)) == b"ne\nlin"


@pytest.mark.parametrize("after_writing", [True, False])
def test_a_retry_sends_the_whole_body_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after_writing: bool
) -> None:
    monkeypatch.setattr(outputs, "_BIG", 2_000_000)
    data = {"small": b"text " * 1000, "medium": os.urandom(1_500_000), "big": os.urandom(5_000_000)}
    for name, body in data.items():
        (tmp_path / name).write_bytes(body)
    store = FlakyStore(2, after_writing=after_writing)
    found = _store(store, tmp_path)
    assert store.puts == 4
    assert {path: _read(store, entry) for path, entry in found.items()} == data


def test_a_storage_that_stays_away_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    store = FlakyStore(99)
    with pytest.raises(StorageUnavailable):
        _store(store, tmp_path)
    assert store.puts == 3


class _Meddler(MemoryStore):
    """A store that changes the folder once it begins to take a body."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def put(self, key: str, data: object, *, create: bool = False, size: int | None = None) -> None:
        (self.folder / "b vanishes").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "c folder", ignore_errors=True)
        (self.folder / "d grows").write_bytes(b"x" * 5_000_000)
        (self.folder / "e shrinks").write_bytes(b"y")
        if not (self.folder / "f turns").is_symlink():
            (self.folder / "f turns").unlink()
            (self.folder / "f turns").symlink_to("/etc/passwd")
        super().put(key, data, create=create, size=size)  # type: ignore[arg-type]


def test_files_that_vanish_or_change_meanwhile_fail_nothing(tmp_path: Path) -> None:
    (tmp_path / "c folder").mkdir()
    for name in ("a stays", "b vanishes", "c folder/x", "d grows", "e shrinks", "f turns"):
        (tmp_path / name).write_bytes(b"before" * 10)
    store = _Meddler(tmp_path)
    found = _store(store, tmp_path)
    assert set(found) == {"a stays", "d grows", "e shrinks", NOTES}
    assert _read(store, found["e shrinks"]) == b"y"
    notes = _notes(store, found)
    for name in ("b vanishes", "c folder/x", "f turns"):
        assert f"{name}: " in notes


def test_a_stale_pack_of_an_earlier_try_is_overwritten(tmp_path: Path) -> None:
    store = MemoryStore()
    (tmp_path / "a").write_bytes(b"first" * 1000)
    _store(store, tmp_path)
    (tmp_path / "a").write_bytes(b"second")
    found = _store(store, tmp_path)
    assert _read(store, found["a"]) == b"second"


def test_storing_stops_when_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(Stopped):
        store_outputs(MemoryStore(), "t", 1, tmp_path, None, logs={}, stopped=lambda: True)


def test_progress_counts_files_and_bytes(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x" * 10)
    seen: list[tuple[int, int]] = []
    store_outputs(MemoryStore(), "t", 1, tmp_path, None, logs={}, progress=lambda n, size: seen.append((n, size)))
    assert seen == [(n, 10 * n) for n in range(1, 6)]


def test_an_empty_folder_gives_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    assert _store(store, tmp_path) == {}
    assert _store(store, tmp_path / "absent") == {}
    assert list(store.list("")) == []
