from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.errors import ObjectNotFound, OutputDamaged, StorageUnavailable
from storage.memory import MemoryStore
from storage.outcomes import attempts_of, read_outcome, remove_task
from storage.outputs import store_outputs
from storage.paths import Paths
from storage.retries import Retries
from storage.snapshots import (
    bring_snapshot,
    complete_snapshots,
    last_number,
    prune_snapshots,
    put_snapshot,
    remove_snapshots,
)
from tests.unit.storage.flaky import FlakyStore

TASK = "t000000000001"
NOW = Retries(sleep=lambda _: None)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a \u00fc").write_bytes(b"x" * 1000)
    (folder / "small").write_bytes(b"7")
    (folder / "small").chmod(0o755)
    return folder


def test_a_snapshot_comes_back_as_it_was_over_what_is_there(state: Path, tmp_path: Path) -> None:
    store, target = MemoryStore(), tmp_path / "target"
    made = put_snapshot(store, TASK, 2, 1, state)
    assert (made.attempt, made.number, made.files, made.size) == (2, 1, 2, 1001)
    target.mkdir()
    (target / "small").write_text("an input")
    (target / "other").write_text("stays")
    assert bring_snapshot(store, TASK, (2, 1), target) == made
    assert {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()} == {
        "deep/a \u00fc": b"x" * 1000,
        "small": b"7",
        "other": b"stays",
    }
    assert (target / "small").stat().st_mode & 0o777 == 0o755
    assert (target / "small").stat().st_mtime_ns == (state / "small").stat().st_mtime_ns


def test_a_snapshot_without_its_manifest_is_absent(state: Path, tmp_path: Path) -> None:
    store = MemoryStore()

    def refuse() -> None:
        raise StorageUnavailable

    with pytest.raises(StorageUnavailable):
        put_snapshot(store, TASK, 1, 1, state, confirm=refuse)
    assert complete_snapshots(store, TASK) == []
    assert last_number(store, TASK, 1) == 1, "its objects are there, and its number is not used again"
    with pytest.raises(ObjectNotFound):
        bring_snapshot(store, TASK, (1, 1), tmp_path)


@pytest.mark.parametrize("after_writing", [False, True])
def test_a_storage_that_fails_for_a_while_is_asked_again(state: Path, *, after_writing: bool) -> None:
    store = FlakyStore(2, after_writing=after_writing)
    put_snapshot(store, TASK, 1, 1, state, retries=NOW)
    assert complete_snapshots(store, TASK) == [(1, 1)]


def test_the_newest_is_that_of_the_newest_attempt_whoever_writes_last(state: Path) -> None:
    store = MemoryStore()
    for attempt, number in [(2, 1), (10, 1), (2, 11), (2, 2)]:
        put_snapshot(store, TASK, attempt, number, state)
    assert complete_snapshots(store, TASK) == [(10, 1), (2, 11), (2, 2), (2, 1)]
    assert [last_number(store, TASK, attempt) for attempt in (1, 2, 10)] == [0, 11, 1]


def test_only_the_two_newest_stay_and_what_is_being_written_is_left(state: Path) -> None:
    store = MemoryStore()
    for attempt, number in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        put_snapshot(store, TASK, attempt, number, state)
    store_outputs(store, TASK, 1, state, None, logs={}, snapshot=9)
    store_outputs(store, TASK, 2, state, None, logs={}, snapshot=3)
    prune_snapshots(store, TASK, (2, 2))
    assert complete_snapshots(store, TASK) == [(2, 2), (2, 1)]
    assert last_number(store, TASK, 1) == 0, "what an older attempt left in part is gone"
    assert last_number(store, TASK, 2) == 3, "a newer one is being written"


def test_an_older_attempt_that_wakes_removes_nothing_of_a_newer_one(state: Path) -> None:
    store = MemoryStore()
    for attempt, number in [(2, 1), (2, 2), (1, 5)]:
        put_snapshot(store, TASK, attempt, number, state)
    prune_snapshots(store, TASK, (1, 5))
    assert complete_snapshots(store, TASK)[:2] == [(2, 2), (2, 1)]


def test_they_are_no_result_and_go_by_themselves_or_with_the_task(state: Path) -> None:
    store = MemoryStore()
    put_snapshot(store, TASK, 3, 1, state)
    assert read_outcome(store, TASK, 3) is None
    assert attempts_of(store, TASK) == {3}
    store.put(Paths.outcome(TASK, 3), b"{}")
    remove_snapshots(store, TASK)
    assert [info.key for info in store.list(Paths.task(TASK))] == [Paths.outcome(TASK, 3)]
    put_snapshot(store, TASK, 3, 2, state)
    remove_task(store, TASK, (), simulator="s", project="p")
    assert list(store.list(Paths.task(TASK))) == []


@pytest.mark.parametrize("what", ["pack-0000.zip", "manifest.parquet"])
def test_damage_is_found(state: Path, tmp_path: Path, what: str) -> None:
    store = MemoryStore()
    put_snapshot(store, TASK, 1, 1, state)
    store.put(f"tasks/{TASK}/1/snapshots/000001/{what}", b"rubbish")
    with pytest.raises(OutputDamaged):
        bring_snapshot(store, TASK, (1, 1), tmp_path / "target")


def test_a_file_that_cannot_be_stored_makes_no_snapshot(state: Path) -> None:
    store = MemoryStore()
    os.mkfifo(state / "pipe")
    with pytest.raises(StorageUnavailable, match="could be read"):
        put_snapshot(store, TASK, 1, 1, state)
    assert complete_snapshots(store, TASK) == []
