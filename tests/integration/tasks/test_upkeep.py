"""Copies, checks and compaction of a real database file, and what a restored store learns from the storage."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from simyard.errors import Conflict, InvalidInput
from simyard.reason import ReasonCode
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.manifest import commit_manifest
from storage.memory import MemoryStore as MemoryStorage
from storage.outcomes import put_outcome, remove_task
from storage.tables import list_tables, write_table
from tasks.errors import StoreUnavailable
from tasks.lifecycle import Cancel, End, Lost, Progress
from tasks.recovery import reclaim
from tasks.sqlite import upkeep
from tasks.sqlite.statements import migrations
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, dispatch, draft, failed, later, reason, succeeded


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a 'weird' naïve\nfolder ?#" / "simyard.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(file)) as store:
        yield store


def submitted(store: SqliteStore, count: int = 1) -> list[str]:
    return [answer.record.id for answer in store.submit([draft() for _ in range(count)], NOW) if answer.record]


def test_a_backup_is_one_state_of_a_store_that_others_write(store: SqliteStore, file: Path, tmp_path: Path) -> None:
    submitted(store, 3000)
    stop, steps = threading.Event(), list[tuple[int, int]]()

    def write() -> None:
        while not stop.is_set():
            [task] = submitted(store)
            store.apply(task, Cancel(), NOW)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        size = upkeep.backup(file, tmp_path / "copy.db", lambda done, total: steps.append((done, total)))
    finally:
        stop.set()
        writer.join()
    assert steps[-1][0] == steps[-1][1] > 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy.db"]
    assert size == (tmp_path / "copy.db").stat().st_size
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert list(upkeep.check(tmp_path / "copy.db")) == []
    with closing(SqliteStore(tmp_path / "copy.db")) as copy:
        counts = copy.counts()
        assert counts[Status.QUEUED] in {3000, 3001}
        assert counts[Status.CANCELLED] <= store.counts()[Status.CANCELLED]


def test_a_backup_replaces_nothing(store: SqliteStore, file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Conflict):
        upkeep.backup(file, tmp_path / "mine", quiet)
    assert (tmp_path / "mine").read_text() == "mine"
    with pytest.raises(InvalidInput):
        upkeep.backup(file, tmp_path / "absent" / "copy.db", quiet)
    with pytest.raises(InvalidInput):
        upkeep.backup(tmp_path / "absent.db", tmp_path / "copy.db", quiet)


_LIMITED = """
import resource, sys
from pathlib import Path
from tasks.errors import StoreUnavailable
from tasks.sqlite.upkeep import backup
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    backup(Path(sys.argv[1]), Path(sys.argv[2]), lambda done, total: None)
except StoreUnavailable as error:
    sys.exit(7)
"""


def test_a_backup_onto_a_full_disk_leaves_nothing(store: SqliteStore, file: Path, tmp_path: Path) -> None:
    submitted(store, 300)
    command = [sys.executable, "-c", _LIMITED, str(file), str(tmp_path / "copy.db")]
    done = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert list(upkeep.check(file)) == []


def test_what_is_no_database_of_ours_is_not_checked(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (x)")
    for path in (other, tmp_path / "absent.db"):
        with pytest.raises(StoreUnavailable):
            list(upkeep.check(path))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("UPDATE tasks SET status = 'running'", "body"),
        ("UPDATE tasks SET holder = 'sim-1'", "held"),
        ("UPDATE events SET status = 'failed'", "last event"),
        ("DELETE FROM input_lists", "not there"),
    ],
)
def test_a_check_finds_what_is_wrong_and_names_it(store: SqliteStore, file: Path, harm: str, told: str) -> None:
    [task] = submitted(store)
    assert list(upkeep.check(file)) == []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(harm)
    troubles = list(upkeep.check(file))
    assert any(told in trouble for trouble in troubles)
    assert "not there" in told or any(task in trouble for trouble in troubles)


def test_a_damaged_page_is_found(store: SqliteStore, file: Path) -> None:
    submitted(store, 500)
    store.close()
    with file.open("r+b") as opened:
        opened.seek(4096 * 20)
        opened.write(b"\xff" * 4096 * 5)
    assert any("damaged" in trouble for trouble in upkeep.check(file))


def test_a_restore_keeps_what_was_there(store: SqliteStore, file: Path, tmp_path: Path) -> None:
    first = submitted(store, 2)
    upkeep.backup(file, tmp_path / "copy.db", quiet)
    later_on = submitted(store)
    store.close()
    upkeep.replace(file, tmp_path / "copy.db", file.with_name("aside.db"), quiet)
    assert sorted(path.name for path in file.parent.iterdir()) == ["aside.db", "simyard.db"]
    with closing(SqliteStore(file)) as restored, closing(SqliteStore(file.with_name("aside.db"))) as aside:
        assert restored.counts()[Status.QUEUED] == 2
        assert aside.counts()[Status.QUEUED] == 3
        assert [restored.get(task).id for task in first] == first
        assert aside.get(later_on[0]).id == later_on[0]


def test_a_restore_over_a_damaged_database_works(store: SqliteStore, file: Path, tmp_path: Path) -> None:
    submitted(store)
    upkeep.backup(file, tmp_path / "copy.db", quiet)
    store.close()
    file.write_bytes(b"not a database any more" * 1000)
    upkeep.replace(file, tmp_path / "copy.db", file.with_name("aside.db"), quiet)
    assert file.with_name("aside.db").read_bytes().startswith(b"not a database")
    with closing(SqliteStore(file)) as restored:
        assert restored.counts()[Status.QUEUED] == 1


def test_room_of_forgotten_tasks_goes_back_to_the_disk(store: SqliteStore, file: Path) -> None:
    tasks = submitted(store, 2000)
    for task in tasks[1:]:
        store.apply(task, Cancel(), NOW)
        store.forget(task)
    store.close()
    before, after = upkeep.vacuum(file)
    assert after < before / 4
    assert list(upkeep.check(file)) == []
    with closing(SqliteStore(file)) as again:
        assert again.inputs(tasks[0]) == draft().spec.inputs


def test_lists_of_inputs_that_no_task_names_are_forgotten(store: SqliteStore, file: Path) -> None:
    [task] = submitted(store)
    store.apply(task, Cancel(), NOW)
    store.forget(task)
    store.close()
    upkeep.vacuum(file)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM input_lists").fetchone() == (0,)


def test_the_end_of_older_tasks_is_known_after_the_migration(store: SqliteStore, file: Path) -> None:
    ended, queued = submitted(store, 2)
    store.apply(ended, Cancel(), later(1.5))
    store.close()
    number = next(number for number, steps in migrations() if "tasks_ended" in " ".join(steps))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for index in ("tasks_ended", "tasks_with_outputs"):
            connection.execute(f"DROP INDEX {index}")
        connection.execute("ALTER TABLE tasks DROP COLUMN ended_at")
        for again, steps in migrations():
            for step in steps if again == number else ():
                connection.execute(step)
    with closing(SqliteStore(file)) as migrated:
        assert [record.id for record in migrated.ended(later(60), 10)] == [ended]
        assert migrated.ended(later(1.5) - timedelta(milliseconds=2), 10) == []
        assert migrated.get(queued).task.ended_at is None


# What a restored store learns from the storage.


def commit(objects: MemoryStorage, task: str, attempt: int, *, ok: bool = True) -> None:
    outcome = succeeded() if ok else failed()
    put_outcome(objects, task, attempt, outcome.model_dump_json().encode())
    commit_manifest(objects, task, attempt, [])


def test_a_result_that_came_after_the_backup_is_found(store: SqliteStore) -> None:
    objects = MemoryStorage()
    queued, running, silent = submitted(store, 3)
    store.apply(running, dispatch(), NOW)
    store.apply(running, Progress(1, Status.RUNNING), NOW)
    commit(objects, queued, 1)
    commit(objects, running, 1, ok=False)
    assert reclaim(store, objects, queued, NOW).task.result == 1
    assert reclaim(store, objects, running, NOW).status is Status.FAILED
    assert reclaim(store, objects, silent, NOW).status is Status.QUEUED
    assert store.get(silent).attempt == 0


def test_attempts_that_the_backup_never_heard_of_keep_their_numbers(store: SqliteStore) -> None:
    objects = MemoryStorage()
    task, lost = submitted(store, 2)
    store.apply(task, dispatch(), NOW)
    objects.put(f"tasks/{task}/2/pack-0000.zip", b"half")
    commit(objects, task, 3)
    record = reclaim(store, objects, task, NOW)
    assert (record.status, record.task.result, record.attempt, record.losses) == (Status.SUCCEEDED, 3, 3, 0)
    objects.put(f"tasks/{lost}/2/pack-0000.zip", b"half")
    record = reclaim(store, objects, lost, NOW)
    assert (record.status, record.attempt, record.losses) == (Status.QUEUED, 2, 0)
    assert reclaim(store, objects, lost, NOW) == record


def test_a_storage_that_does_not_answer_reclaims_nothing(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = MemoryStorage()
    [task] = submitted(store)

    def refuse(prefix: str) -> None:
        raise StorageUnavailable("It does not answer.")

    monkeypatch.setattr(objects, "list", refuse)
    with pytest.raises(StorageUnavailable):
        reclaim(store, objects, task, NOW)
    assert store.get(task).attempt == 0


def test_all_that_a_task_stored_is_removed_and_nothing_else() -> None:
    pa = pytest.importorskip("pyarrow")
    objects = MemoryStorage()
    place = {"simulator": "swmm", "project": "default"}
    for task in ("t0000000000aa", "t0000000000ab"):
        commit(objects, task, 1)
        commit(objects, task, 2)
        objects.put(f"tasks/{task}/2/pack-0000.zip", b"12345")
        write_table(objects, "summary", pa.table({"x": [1]}), task=task, **place)
    objects.put("inputs/" + "a" * 64, b"shared")
    before = {info.key for info in objects.list("")}
    assert remove_task(objects, "t0000000000aa", ["summary", "absent"], **place) > 5
    gone = before - {info.key for info in objects.list("")}
    assert gone == {key for key in before if "t0000000000aa" in key}
    assert list_tables(objects, ["summary"], task="t0000000000ab", **place) == ("summary",)
    assert remove_task(objects, "t0000000000aa", ["summary"], **place) == 0


def test_a_lost_attempt_is_not_charged_by_a_restore(store: SqliteStore) -> None:
    [task] = submitted(store)
    store.apply(task, dispatch(), NOW)
    store.apply(task, Lost(1, reason(ReasonCode.MACHINE_LOST)), NOW)
    store.apply(task, dispatch(), NOW)
    record = reclaim(store, MemoryStorage(), task, NOW)
    assert (record.status, record.losses) == (Status.QUEUED, 1)
    store.apply(task, dispatch(), later(300))
    assert store.apply(task, End(3, succeeded()), later(300)).task.result == 3
