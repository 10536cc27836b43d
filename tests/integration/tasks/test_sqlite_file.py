from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from simyard.status import Status
from tasks.errors import StoreTooNew, StoreUnavailable
from tasks.lifecycle import Renew
from tasks.record import TaskQuery
from tasks.sqlite.schema import APPLICATION_ID, schema_version
from tasks.sqlite.statements import migrations, statements
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, dispatch, draft, later

INCOMPRESSIBLE = 20_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "simyard.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(file, busy_seconds=0.2)) as store:
        yield store


def is_whole(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)] and not (
            connection.execute("PRAGMA foreign_key_check").fetchall()
        )


def test_only_its_owner_may_read_the_file(store: SqliteStore, file: Path) -> None:
    store.submit([draft()], NOW)
    for path in file.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_write_waits_for_the_disk_but_a_renewal(file: Path) -> None:
    with closing(SqliteStore(file)) as store:
        [answer] = store.submit([draft()], NOW)
        assert answer.record is not None
        store.apply(answer.record.id, dispatch(), NOW)
        store.apply(answer.record.id, Renew(1, later(90)), NOW)
        with store._database.write() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        with store._database.write(durable=False) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        with store._database.write() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_tasks_are_there_when_the_file_is_opened_again(file: Path) -> None:
    want = draft()
    with closing(SqliteStore(file)) as store:
        store.submit([want], NOW)
        before = store.get(want.id)
    with closing(SqliteStore(file)) as store:
        assert store.get(want.id) == before
        assert store.inputs(want.id) == want.spec.inputs
        [record] = [a.record for a in store.submit([draft()], NOW)]
        assert record is not None
        assert record.seq == before.seq + 1


@pytest.mark.parametrize("count", [1, 2, 7, 1024, 1025, 2500])
def test_a_batch_of_any_size_goes_in_whole_and_by_a_few_statements(store: SqliteStore, count: int) -> None:
    # Between two statements another thread may take Python's lock, and keeps it for 5 ms.
    said: list[str] = []
    with store._database.write() as connection:
        connection.set_trace_callback(said.append)
        # As SQLite comes; Debian's takes more.
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    want = [draft(name=f"case{i}") for i in range(count)]
    answers = store.submit(want, NOW)
    with store._database.write() as connection:
        connection.set_trace_callback(None)
    assert [answer.record.id for answer in answers if answer.record] == [one.id for one in want]
    assert [store.get(one.id).task.name for one in want] == [one.spec.name for one in want]
    assert sum(one.startswith("INSERT INTO tasks ") for one in said) <= count / 1024 + count.bit_length()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_every_statement_can_be_run(store: SqliteStore) -> None:
    for name, sql in statements().items():
        if not name.startswith("list."):
            with store._database.read() as connection:
                values = dict.fromkeys(re.findall(r":([a-z_0-9]+)", sql))
                connection.execute(f"EXPLAIN {sql}", values).fetchall()


def test_a_migration_that_fails_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [first] = [step for step in migrations() if step[0] == 1]
    broken = (first, (2, ("CREATE TABLE half (x INTEGER) STRICT", "INSERT INTO nowhere VALUES (1)")))
    monkeypatch.setattr("tasks.sqlite.schema.migrations", lambda: broken)
    with pytest.raises(StoreUnavailable):
        SqliteStore(file)
    with closing(sqlite3.connect(file)) as connection:
        assert schema_version(connection) == 1
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)


def test_an_older_database_is_brought_to_the_schema_of_the_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(file).close()
    steps = (*migrations(), (len(migrations()) + 1, ("CREATE TABLE more (x INTEGER) STRICT",)))
    monkeypatch.setattr("tasks.sqlite.schema.migrations", lambda: steps)
    for _ in range(2):
        SqliteStore(file).close()
    with closing(sqlite3.connect(file)) as connection:
        assert schema_version(connection) == len(steps)
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (0,)


def test_who_opens_a_database_waits_for_another_ones_migration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(file).close()
    steps = (*migrations(), (len(migrations()) + 1, ("CREATE TABLE more (x INTEGER) STRICT",)))
    monkeypatch.setattr("tasks.sqlite.schema.migrations", lambda: steps)
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE more (x INTEGER) STRICT")
        other.execute(f"PRAGMA user_version = {len(steps)}")
        end = threading.Timer(0.5, other.execute, ["COMMIT"])
        end.start()
        with closing(SqliteStore(file, busy_seconds=0.05)) as store:
            assert not other.in_transaction
            with store._database.write() as connection:
                assert connection.execute("PRAGMA busy_timeout").fetchone() == (50,)
        end.join()


def test_a_newer_database_is_refused_untouched(file: Path) -> None:
    SqliteStore(file).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute("PRAGMA user_version = 9999")
    before = file.read_bytes()
    with pytest.raises(StoreTooNew, match="9999"):
        SqliteStore(file)
    assert file.read_bytes() == before


def test_the_database_of_another_program_is_refused_untouched(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = file.read_bytes()
    with pytest.raises(StoreUnavailable, match="another program"):
        SqliteStore(file)
    assert file.read_bytes() == before


def test_the_file_carries_our_mark(file: Path) -> None:
    SqliteStore(file).close()
    assert file.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4)


@pytest.mark.parametrize("content", [b"this is a letter, and no database at all" * 100, b"\0" * 5000])
def test_a_file_that_is_no_database_is_refused_untouched(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        SqliteStore(file)
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "file" / "simyard.db")
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path)


def test_a_database_that_another_process_keeps_locked_is_unavailable(store: SqliteStore, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.submit([draft()], NOW)
        assert store.list(TaskQuery()) == []
        other.execute("COMMIT")
    assert store.submit([draft()], NOW)[0].created


def test_a_thread_that_writes_for_long_makes_the_others_give_up(store: SqliteStore) -> None:
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._database.write():
            inside.set()
            done.wait(30)

    with ThreadPoolExecutor(1) as thread:
        held = thread.submit(hold)
        assert inside.wait(30)
        with pytest.raises(StoreUnavailable, match="busy"):
            store.submit([draft()], NOW)
        done.set()
        held.result(30)
    assert store.submit([draft()], NOW)[0].created


def test_a_full_database_is_unavailable_and_keeps_nothing_half(store: SqliteStore, file: Path) -> None:
    [kept] = store.submit([draft()], NOW)
    with store._database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    store._database._writer.execute(f"PRAGMA max_page_count = {pages + 3}")  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailable, match="full"):
        store.submit([draft(metadata={"m": "x" * INCOMPRESSIBLE}) for _ in range(5)], NOW)
    assert kept.record is not None
    assert [record.id for record in store.list(TaskQuery())] == [kept.record.id]
    assert len(store.events()) == 1
    store._database._writer.execute("PRAGMA max_page_count = 1000000")  # type: ignore[union-attr]
    assert store.submit([draft()], NOW)[0].created
    assert is_whole(file)


_LIMITED = """
import resource, sys
from pathlib import Path
from tasks.errors import StoreUnavailable
from tasks.record import TaskQuery
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, draft
store = SqliteStore(Path(sys.argv[1]))
kept = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    for _ in range(1000):
        store.submit([draft(metadata={"m": "x" * 10000}) for _ in range(3)], NOW)
        kept += 3
except StoreUnavailable as error:
    print(error, file=sys.stderr)
else:
    sys.exit("it never ran out of space")
assert len(store.list(TaskQuery(limit=10000))) == kept, "after the failure"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.submit([draft()], NOW)[0].created, "once there is space again"
store.close()
print(kept + 1)
"""


def test_a_disk_that_refuses_to_write_is_unavailable_and_keeps_nothing_half(file: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(file)]
    done = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with closing(SqliteStore(file)) as store:
        assert store.counts()[Status.QUEUED] == int(done.stdout)
        assert len(store.events(limit=10**6)) == int(done.stdout)
    assert is_whole(file)


def test_two_stores_see_each_others_writes(file: Path) -> None:
    with closing(SqliteStore(file)) as one, closing(SqliteStore(file)) as two:
        want = draft(key="k")
        one.submit([want], NOW)
        assert two.get(want.id).status is Status.QUEUED
        two.apply(want.id, dispatch(), NOW)
        assert one.get(want.id).status is Status.PREPARING
        [again] = two.submit([draft(key="k")], NOW)
        assert not again.created


def test_several_that_open_a_new_file_at_once_all_get_it(file: Path) -> None:
    start = threading.Barrier(6)

    def start_one(_: int) -> None:
        start.wait(30)
        with closing(SqliteStore(file)) as store:
            store.submit([draft()], NOW)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(start_one, range(6)))
    with closing(SqliteStore(file)) as store:
        assert store.counts()[Status.QUEUED] == 6


def test_the_same_inputs_are_kept_once(store: SqliteStore) -> None:
    store.submit([draft() for _ in range(5)], NOW)
    store.submit([draft(), draft(inputs=draft().spec.inputs[:1])], NOW)
    with store._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM input_lists").fetchone() == (2,)


FILTERS: dict[str, Any] = {
    "status": Status.SUCCEEDED,
    "simulator": "swmm",
    "project": "p",
    "name": "n",
    "group": "local",
    "sweep": "s",
    "before": 9,
}


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        ({}, "user=?"),
        ({"status": Status.FAILED}, "user=? AND status=?"),
        ({"project": "p"}, "user=? AND project=?"),
        ({"project": "p", "status": Status.FAILED}, "user=? AND project=? AND status=?"),
        ({"name": "n", "status": Status.FAILED}, "user=? AND name=?"),
        ({"simulator": "swmm"}, "user=? AND simulator=?"),
        ({"simulator": "swmm", "status": Status.SUCCEEDED}, "user=? AND simulator=?"),
        ({"simulator": "swmm", "status": Status.FAILED}, "user=? AND status=?"),
        ({"group": "gpu", "before": 9}, "user=? AND machine_group=? AND seq<?"),
        ({"sweep": "s"}, "sweep=?"),
        ({"sweep": "s", "status": Status.SUCCEEDED}, "sweep=? AND status=?"),
    ],
)
def test_a_page_is_read_from_the_index_that_skips_the_fewest_tasks(
    store: SqliteStore, filters: dict[str, Any], condition: str
) -> None:
    assert [plan.partition(" (")[2] for plan in plans_of_list(store, user="ada", **filters)] == [f"{condition})"]


def test_whatever_a_user_asks_for_a_page_is_read_in_the_order_of_an_index(store: SqliteStore) -> None:
    for count in range(len(FILTERS) + 1):
        for names in combinations(FILTERS, count):
            [plan] = plans_of_list(store, user="ada", **{name: FILTERS[name] for name in names})
            assert plan.startswith("SEARCH tasks USING INDEX tasks_by_"), (names, plan)


def plans_of_list(store: SqliteStore, **filters: Any) -> list[str]:
    """Return how SQLite would find a page of tasks, a step each."""
    seen: list[str] = []
    with store._database.read() as connection:
        connection.set_trace_callback(seen.append)
    store.list(TaskQuery(**filters))
    with store._database.read() as connection:
        connection.set_trace_callback(None)
        [sql] = seen
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("queue", {"now": 2**60, "limit": 10, "group": "local", "user": "ada", "project": "default"}),
        ("next_lanes", {"group": "local", "user": "ada", "project": "default"}),
        ("runs", {"simulator": "swmm", "limit": 20}),
        ("next_ready", {"now": 0}),
        ("waiting", {"seq": 5, "priority": 0, "group": "local", "user": "ada", "project": "default"}),
        ("active", {}),
        ("counts", {}),
        ("find_by_id", {"id": "t"}),
        ("find_by_keys", {"keys": "[]"}),
        ("find_by_ids", {"ids": "[]"}),
        ("read_task_events", {"id": "t", "after": 0, "limit": 5}),
        ("count_refused", {"task": 1}),
        ("ended", {"before": 2**60, "at": 0, "seq": 0, "project": None, "limit": 10}),
        ("ended_with_outputs", {"before": 2**60, "at": 0, "seq": 0, "project": "p", "limit": 10}),
        ("queued", {}),
    ],
)
def test_no_question_reads_or_sorts_the_whole_table(
    store: SqliteStore, name: str, values: dict[str, int | str]
) -> None:
    with store._database.read() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statements()[name]}", values)]
    for line in plan:
        assert "TEMP B-TREE" not in line or name in {"active", "runs"}
        assert not line.startswith("SCAN") or "INDEX" in line or "CONSTANT ROW" in line or "(subquery" in line, line
