from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simyard.files import Codec, EntryKind, ManifestEntry
from storage.errors import AlreadyExists, OutputDamaged, StorageUnavailable
from storage.local import LocalStore
from storage.manifest import commit_manifest, read_manifest
from storage.memory import MemoryStore
from storage.paths import Paths
from storage.retries import Retries
from tests.unit.storage.flaky import FlakyStore


def _entry(path: str = "a", size: int = 1) -> ManifestEntry:
    return ManifestEntry(path=path, size=size, mtime_ns=5, mode=0o644, sha256="0" * 64, object="pack-0000.zip")


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
_ENTRIES = st.builds(
    ManifestEntry,
    path=_TEXTS,
    kind=st.sampled_from(EntryKind),
    size=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
    mode=st.integers(0, 0o7777),
    link=st.none() | _TEXTS,
    sha256=st.none() | st.just("ab" * 32),
    object=st.none() | _TEXTS,
    offset=st.integers(0, 2**62),
    length=st.integers(0, 2**62),
    codec=st.sampled_from(Codec),
)


@given(st.lists(_ENTRIES, max_size=5))
def test_entries_come_back_as_they_were(entries: list[ManifestEntry]) -> None:
    store = MemoryStore()
    commit_manifest(store, "t", 1, entries)
    assert read_manifest(store, "t", 1) == entries


def test_only_the_wanted_entries_are_read() -> None:
    store = MemoryStore()
    commit_manifest(store, "t", 1, [_entry(f"f{n}") for n in range(10_000)])
    wanted = {"f3", "f9999"}
    assert [entry.path for entry in read_manifest(store, "t", 1, wanted=wanted.__contains__)] == ["f3", "f9999"]


def test_of_racing_commits_exactly_one_wins(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for attempt in range(5):
        gate = threading.Barrier(8)

        def commit(racer: int, attempt: int = attempt, gate: threading.Barrier = gate) -> bool:
            gate.wait(20)
            try:
                commit_manifest(store, "t", attempt, [_entry(size=racer)])
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(commit, range(8)))
        assert won.count(True) == 1
        assert read_manifest(store, "t", attempt) == [_entry(size=won.index(True))]


@pytest.mark.parametrize("after_writing", [True, False])
def test_a_commit_that_failed_in_the_open_succeeds_on_retry(patience: Retries, *, after_writing: bool) -> None:
    store = FlakyStore(1, after_writing=after_writing)
    commit_manifest(store, "t", 1, [_entry()], retries=patience)
    assert read_manifest(store, "t", 1) == [_entry()]


def test_a_commit_gives_up_in_the_end(patience: Retries) -> None:
    with pytest.raises(StorageUnavailable):
        commit_manifest(FlakyStore(99), "t", 1, [_entry()], retries=patience)


@pytest.mark.parametrize("damage", [b"", b"PAR1", os.urandom(500)])
def test_a_damaged_manifest_is_told(damage: bytes) -> None:
    store = MemoryStore()
    store.put(Paths.manifest("t", 1), damage)
    with pytest.raises(OutputDamaged):
        read_manifest(store, "t", 1)
