"""What the release before this one has stored, and what its actors send, is read by this one."""

from __future__ import annotations

import base64
import inspect
import json
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from simulators.actor import ActorState, SimulatorActor
from simulators.outcome import Outcome
from simulators.work import Work
from simyard.event import EventKind, Sample
from simyard.status import Status
from simyard.task import Task
from storage.memory import MemoryStore as Objects
from tasks.bell import Bell
from tasks.desk import Clock, Desk
from tasks.dispatcher import DispatcherActor
from tasks.holders import Verdict
from tasks.lifecycle import Cancel, End
from tasks.postgres.connecting import SCHEMA
from tasks.postgres.statements import migrations
from tasks.postgres.store import PostgresStore
from tasks.record import SweepQuery, TaskQuery, TaskRecord
from tasks.sqlite import upkeep
from tasks.sqlite.store import SqliteStore
from tasks.store import Store
from tests.services.postgres import PostgresServer
from tests.unit.tasks.samples import INPUTS, NOW, dispatch, draft, failed, later, succeeded
from tests.unit.tasks.test_desk_adoption import Actors

PREVIOUS = Path(__file__).parents[2] / "releases" / "previous"
TASKS: dict[str, Any] = json.loads((PREVIOUS / "tasks.json").read_text())
REPORTS: dict[str, Any] = json.loads((PREVIOUS / "reports.json").read_text())
TABLES = ("input_lists", "sweeps", "tasks", "events", "keys")
POSTGRES_SCHEMA = 1
"""The newest migration of PostgreSQL that the release before this one had."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The store of the previous release, in a file."""
    file = tmp_path / "tasks.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((PREVIOUS / "store.sql").read_text())
        connection.execute("PRAGMA journal_mode = WAL")
    return file


@pytest.fixture
def sqlite_store(database: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(database)) as store:
        yield store


@pytest.fixture
def postgres_store(database: Path, postgres_server: PostgresServer) -> Iterator[PostgresStore]:
    """The same rows in PostgreSQL, in the tables as they were."""
    with postgres_server.database() as name:
        url = postgres_server.url(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
            connection.execute(f"SET search_path TO {SCHEMA}".encode())
            connection.execute(
                "CREATE TABLE migrations (number INTEGER PRIMARY KEY, at TIMESTAMPTZ NOT NULL DEFAULT now())"
            )
            for number, script in migrations()[:POSTGRES_SCHEMA]:
                connection.execute(script.encode())
                connection.execute("INSERT INTO migrations (number) VALUES (%s)", (number,))
            with closing(sqlite3.connect(database)) as source:
                source.row_factory = sqlite3.Row
                for table in TABLES:
                    for row in source.execute(f"SELECT * FROM {table}").fetchall():
                        names = ", ".join(f'"{name}"' for name in row.keys())  # noqa: SIM118 - a row is no mapping
                        places = ", ".join(["%s"] * len(row))
                        sql = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})"
                        connection.execute(sql.encode(), tuple(row))
            for sequence, table in (("tasks_seq", "tasks"), ("events_seq", "events")):
                connection.execute(f"SELECT setval('{sequence}', (SELECT max(seq) FROM {table}))".encode())
        with closing(PostgresStore(url)) as store:
            yield store


def named(store: Store) -> dict[str, TaskRecord]:
    return {record.task.name or "": record for record in store.list(TaskQuery(limit=100))}


def check(store: Store) -> None:
    """Look whether the store has all that was stored, and goes on with each task from where it stood."""
    found = named(store)
    assert {record.id for record in found.values()} == TASKS.keys()
    for record in found.values():
        said = json.loads(record.task.model_dump_json())
        # What this release has added has its default, so that nobody else than it knows of it.
        assert said == json.loads(Task.model_validate(TASKS[record.id]).model_dump_json())
        whole = TASKS[record.id].keys() - {"attempts", "resources"}
        assert {name: said[name] for name in whole} == {name: TASKS[record.id][name] for name in whole}
        assert said["resources"].items() >= TASKS[record.id]["resources"].items()
        assert store.inputs(record.id) == INPUTS
        events = store.events(task=record.id)
        assert (events[0].kind, events[-1].status) == (EventKind.SUBMITTED, record.status)
    [sweep] = store.list_sweeps(SweepQuery())
    assert (sweep.cases, store.counts(sweep=sweep.id)[Status.QUEUED]) == (2, 2)
    assert len(store.list_keys()) == 1
    assert {record.id for record in store.active()} == {
        found[name].id for name in ("preparing", "running", "finalizing")
    }
    again = store.submit([draft(name="queued", key="queued")], later(60))
    assert (again[0].record, again[0].created) == (found["queued"], False)
    for name in ("queued", "lost", "case-1"):
        assert store.apply(found[name].id, dispatch(), later(60)).status is Status.PREPARING
    assert store.apply(found["finalizing"].id, End(1, succeeded()), later(60)).task.result == 1
    assert store.apply(found["running"].id, End(1, failed()), later(60)).status is Status.FAILED
    assert store.apply(found["case-2"].id, Cancel(), later(60)).status is Status.CANCELLED
    assert {record.status for record in store.ended(later(6), 100)} == {
        Status.SUCCEEDED,
        Status.FAILED,
        Status.CANCELLED,
    }


def test_a_sqlite_file_is_read(sqlite_store: SqliteStore, database: Path) -> None:
    check(sqlite_store)
    assert list(upkeep.check(database)) == []


def test_a_postgresql_database_is_read(postgres_store: PostgresStore) -> None:
    check(postgres_store)


def test_reports_of_actors_that_were_started_before_are_taken(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    clock = Clock(now=lambda: NOW, monotonic=lambda: 0.0)
    desk = Desk(sqlite_store, Objects("previous"), Actors(), clock, lease=30, warm=60, storage="memory://previous")
    dispatcher: Any = object.__new__(DispatcherActor)
    dispatcher._desk, dispatcher._bell = desk, Bell(tmp_path / "bell")
    for report in REPORTS["to_dispatcher"]:
        taken = getattr(dispatcher, report["method"])(*unpickled(report["arguments"]))
        assert taken is Verdict.TAKEN, report["method"]
    record = sqlite_store.get(REPORTS["task"])
    assert (record.status, record.task.result, record.task.attempts[-1].stalls) == (Status.SUCCEEDED, 1, 1)


@pytest.mark.parametrize(
    ("name", "kind"), [("failed", Outcome), ("state", ActorState), ("sample", Sample), ("work", Work)]
)
def test_what_travels_between_processes_has_all_its_fields(name: str, kind: type) -> None:
    value = unpickled(REPORTS[name])
    assert type(value) is kind
    fields = getattr(kind, "model_fields", None) or kind.__dataclass_fields__
    for field in fields:
        getattr(value, field)
    assert value == pickle.loads(pickle.dumps(value))
    if name == "failed":
        assert value == failed()
    if name == "state":
        assert value.resources == draft().spec.resources


def test_an_actor_that_was_started_before_finds_in_a_new_attempt_all_that_it_knows() -> None:
    assert set(REPORTS["work_fields"]) <= Work.__dataclass_fields__.keys()
    # It makes the reporter by its name, and calls the dispatcher by its methods.
    assert unpickled(REPORTS["reporter"]) is not None


@pytest.mark.parametrize(("side", "now"), [("dispatcher", DispatcherActor), ("actor", SimulatorActor)])
def test_every_call_of_the_previous_release_is_still_understood(side: str, now: type) -> None:
    for name, parameters in REPORTS[side].items():
        has = inspect.signature(getattr(now, name)).parameters
        assert list(has)[1 : len(parameters) + 1] == parameters, name
        rest = list(has.values())[len(parameters) + 1 :]
        assert all(parameter.default is not parameter.empty for parameter in rest), name


def unpickled(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))
