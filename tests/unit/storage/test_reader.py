from __future__ import annotations

import io
import os
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simyard.files import Codec, ManifestEntry
from storage.errors import InvalidKey, OutputDamaged, Stopped, UnsafePath
from storage.memory import MemoryStore
from storage.outputs import store_outputs
from storage.paths import Paths
from storage.reader import read_entry, restore, zip_entries
from storage.retries import Retries


def _stored(files: dict[str, bytes], store: MemoryStore) -> list[ManifestEntry]:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        return store_outputs(store, "t", 1, Path(folder), None, logs={})


def _damage(store: MemoryStore, entry: ManifestEntry) -> None:
    key = Paths.below("t", 1, entry.object or "")
    data = bytearray(store.get(key))
    data[entry.offset + entry.length // 2] ^= 0x55
    store.put(key, bytes(data))


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 400), st.none() | st.integers(0, 400))
def test_any_range_of_any_file_is_read(data: bytes, packs_well: bool, start: int, length: int | None) -> None:
    whole = data * 10 if packs_well else data
    store = MemoryStore()
    (entry,) = _stored({"a": whole}, store)
    expected = whole[start : None if length is None else start + length]
    assert b"".join(read_entry(store, "t", 1, entry, start, length)) == expected


@pytest.mark.parametrize("data", [b"text " * 1000, os.urandom(5000)], ids=["deflated", "stored"])
def test_damaged_bytes_are_never_passed_off_as_the_file(data: bytes, tmp_path: Path) -> None:
    store = MemoryStore()
    good, bad = _stored({"a": b"good", "b": data}, store)
    _damage(store, bad)
    with pytest.raises(OutputDamaged):
        list(read_entry(store, "t", 1, bad))
    with pytest.raises(OutputDamaged):
        list(zip_entries(store, "t", 1, [good, bad]))
    with pytest.raises(OutputDamaged):
        restore(store, "t", 1, [good, bad], tmp_path / "out")
    assert not (tmp_path / "out" / "b").exists()
    store.delete([Paths.below("t", 1, bad.object or "")])
    with pytest.raises(OutputDamaged):
        list(read_entry(store, "t", 1, bad))


def test_a_truncated_object_is_noticed(tmp_path: Path) -> None:
    store = MemoryStore()
    (entry,) = _stored({"a": os.urandom(5000)}, store)
    store.put(Paths.pack("t", 1, 0), store.get(Paths.pack("t", 1, 0))[:2000])
    with pytest.raises(OutputDamaged):
        list(read_entry(store, "t", 1, entry))
    with pytest.raises(OutputDamaged):
        restore(store, "t", 1, [entry], tmp_path)


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "a/../../x", "", "a//b", "a\0b"])
def test_an_entry_that_leaves_the_folder_stops_a_restore_before_it_begins(tmp_path: Path, path: str) -> None:
    store = MemoryStore()
    (good,) = _stored({"a": b"1"}, store)
    evil = good.model_copy(update={"path": path})
    with pytest.raises(UnsafePath):
        restore(store, "t", 1, [good, evil], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_entry_cannot_name_another_attempts_object() -> None:
    store = MemoryStore()
    store.put("tasks/other/1/pack-0000.zip", b"secret")
    entry = ManifestEntry(path="a", size=6, mtime_ns=0, mode=0, object="../../other/1/pack-0000.zip", length=6)
    with pytest.raises(InvalidKey):
        list(read_entry(store, "t", 1, entry))


def test_links_that_leave_are_told_and_not_made(tmp_path: Path) -> None:
    links = {"ok": "a", "d/up": "../a", "out": "../outside", "absolute": "/etc/passwd", "d/sneaky": "../../x"}
    rows = [ManifestEntry(path=path, size=0, mtime_ns=0, mode=0o777, link=to) for path, to in links.items()]
    assert restore(MemoryStore(), "t", 1, rows, tmp_path) == ["out", "absolute", "d/sneaky"]
    assert {path for path in links if (tmp_path / path).is_symlink()} == {"ok", "d/up"}


def test_a_link_in_the_target_folder_is_not_followed(tmp_path: Path) -> None:
    store = MemoryStore()
    (entry,) = _stored({"a": b"new"}, store)
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to("../outside")
    restore(store, "t", 1, [entry], tmp_path / "out")
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert (tmp_path / "out" / "a").read_bytes() == b"new"


def test_a_subset_is_read_by_ranges(tmp_path: Path) -> None:
    files = {f"f{n:02d}": os.urandom(400_000) for n in range(30)}

    class Counting(MemoryStore):
        moved = requests = 0

        def stream(self, key: str, start: int = 0, length: int | None = None, **_: int):  # type: ignore[no-untyped-def]
            self.requests += 1
            self.moved += length or 0
            return super().stream(key, start, length)

    store = Counting()
    entries = _stored(files, store)
    restore(store, "t", 1, [entries[0], entries[1], entries[29]], tmp_path)
    assert store.requests == 2
    assert store.moved < 1_300_000
    assert (tmp_path / "f29").read_bytes() == files["f29"]


def test_a_zip_of_some_entries_has_just_these() -> None:
    store = MemoryStore()
    entries = _stored({"a": b"text " * 5000, "b": b"", "c": os.urandom(3000)}, store)
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_entries(store, "t", 1, [entries[2], entries[0]])))) as archive:
        assert sorted(archive.namelist()) == ["a", "c"]
        assert archive.read("a") == b"text " * 5000
        assert entries[0].codec is Codec.DEFLATE
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_entries(store, "t", 1, [])))) as archive:
        assert archive.namelist() == []


def test_a_restore_stops_when_told(tmp_path: Path, patience: Retries) -> None:
    store = MemoryStore()
    entries = _stored({"a": b"1"}, store)
    with pytest.raises(Stopped):
        restore(store, "t", 1, entries, tmp_path, stopped=lambda: True, retries=patience)
