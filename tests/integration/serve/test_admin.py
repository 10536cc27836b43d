"""`simyard admin` as an operator types it, over a real database and a real folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

from serve.housekeeping import Housekeeping
from simyard.cli.app import build
from simyard.status import Status
from storage.manifest import commit_manifest
from storage.objects import open_store as open_storage
from storage.outcomes import put_outcome
from storage.settings import Settings, load_settings
from tasks.keys import new_key
from tasks.lifecycle import Cancel, End, Progress
from tasks.sqlite.store import SqliteStore
from tests.running_server import until
from tests.unit.tasks.samples import NOW, dispatch, draft, succeeded


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("SIMYARD_DATA_DIR", str(tmp_path / "data 'dir'"))
    load_settings.cache_clear()
    yield load_settings()
    load_settings.cache_clear()


@pytest.fixture
def store(settings: Settings) -> Iterator[SqliteStore]:
    with closing(SqliteStore(settings.database)) as store:
        yield store


def admin(*arguments: str) -> Result:
    return CliRunner().invoke(build(["admin"]), ["admin", *arguments])


def told(*arguments: str) -> dict[str, object]:
    result = admin(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(result.stdout)
    return document


def submit(store: SqliteStore, **fields: object) -> str:
    [answer] = store.submit([draft(**fields)], NOW)
    assert answer.record is not None
    return answer.record.id


def commit(settings: Settings, task: str, attempt: int = 1) -> None:
    storage = open_storage(settings.storage_uri)
    put_outcome(storage, task, attempt, succeeded().model_dump_json().encode())
    commit_manifest(storage, task, attempt, [])


def finish(store: SqliteStore, settings: Settings, task: str, at: datetime) -> None:
    store.apply(task, dispatch(), at)
    store.apply(task, Progress(1, Status.RUNNING), at)
    commit(settings, task)
    store.apply(task, End(1, succeeded()), at)


def test_from_a_backup_the_store_comes_back_and_learns_what_had_ended_since(
    settings: Settings, store: SqliteStore, tmp_path: Path
) -> None:
    ended, waiting = submit(store), submit(store)
    copy = tmp_path / "a copy.db"
    assert told("backup", str(copy))["bytes"] == copy.stat().st_size
    finish(store, settings, ended, NOW)
    after = submit(store)
    store.close()
    restored = told("restore", str(copy))
    assert restored["found"] == 1
    with closing(SqliteStore(settings.database)) as again, closing(SqliteStore(Path(str(restored["kept"])))) as kept:
        assert again.get(ended).task.result == 1
        assert again.get(waiting).status is Status.QUEUED
        assert again.counts()[Status.QUEUED] == 1
        assert kept.get(after).status is Status.QUEUED


def test_nothing_is_restored_under_a_running_server(settings: Settings, store: SqliteStore, tmp_path: Path) -> None:
    task = submit(store)
    told("backup", str(tmp_path / "copy.db"))
    settings.server_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.server_dir / "lock"):
        for command in (("restore", str(tmp_path / "copy.db")), ("vacuum",)):
            result = admin(*command)
            assert result.exit_code == 2
            assert "simyard down" in result.output
    assert store.get(task).status is Status.QUEUED


@pytest.mark.parametrize("content", [b"", b"nothing of ours" * 1000])
def test_what_is_no_backup_is_refused_and_the_store_stays(
    store: SqliteStore, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    task = submit(store)
    (tmp_path / "other").write_bytes(content)
    if not content:
        with closing(sqlite3.connect(tmp_path / "other")) as connection:
            connection.execute("CREATE TABLE other (x)")
    assert admin("restore", str(tmp_path / "other")).exit_code in {2, 3}
    assert admin("restore", str(tmp_path / "absent")).exit_code == 2
    assert store.get(task).status is Status.QUEUED
    assert list(settings.data_dir.glob("simyard-before-*")) == []


def test_a_result_that_the_storage_lacks_is_named(store: SqliteStore, settings: Settings) -> None:
    good, bad = submit(store), submit(store)
    for task in (good, bad):
        finish(store, settings, task, NOW)
    assert told("check") == {"troubles": []}
    storage = open_storage(settings.storage_uri)
    storage.delete([info.key for info in storage.list(f"tasks/{bad}")])
    result = admin("check")
    assert result.exit_code == 1
    assert bad in result.output
    assert good not in result.output


def objects(settings: Settings, task: str) -> list[str]:
    return [info.key for info in open_storage(settings.storage_uri).list("") if task in info.key]


def test_the_rules_of_retention_remove_what_is_old_with_all_it_stored(store: SqliteStore, settings: Settings) -> None:
    now = datetime.now(UTC)
    old, other, young, going = submit(store), submit(store, project="keep"), submit(store), submit(store)
    for task in (old, other):
        finish(store, settings, task, now - timedelta(days=31))
    store.apply(young, Cancel(), now - timedelta(days=29))
    assert told("retention", "run") == {"tasks": 0, "outputs": 0, "bytes": 0, "dry_run": False}
    told("retention", "set", "--tasks", "30d")
    told("retention", "set", "--project", "keep", "--outputs", "36h", "--tasks", "52w")
    would = {"tasks": 1, "outputs": 1, "bytes": None, "dry_run": True}
    assert told("retention", "run", "--dry-run") == would
    assert store.get(old).task.result == 1
    done = told("retention", "run")
    assert (done["tasks"], done["outputs"]) == (1, 1)
    assert told("retention", "run") == {"tasks": 0, "outputs": 0, "bytes": 0, "dry_run": False}
    assert {record.id for record in store.ended(now, 10)} == {other, young}
    assert store.get(going).status is Status.QUEUED
    assert objects(settings, old) == objects(settings, other) == []
    assert store.get(other).task.outputs_removed_at is not None
    assert told("check") == {"troubles": []}


def test_quotas_of_cost_are_set_listed_and_removed(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    store.add_key(new_key("ada", NOW, None)[1])
    now = datetime.now(UTC)
    [ended, runs] = [one.record for one in store.submit([draft(), draft()], now)]
    assert ended is not None
    assert runs is not None
    for task in (ended.id, runs.id):
        store.apply(task, replace(dispatch(), usd_per_hour=0.36), now - timedelta(hours=1))
    store.apply(ended.id, End(1, succeeded()), now)
    done = admin("quota", "set", "--user", "ada", "--usd-per-hour", "0.5", "--usd-per-month", "100")
    assert done.stdout == "The quota of ada is 0.50 USD an hour and 100.00 USD a month.\n"
    [listed] = json.loads(admin("quota", "list", "--json").stdout)["quotas"]
    assert (listed["usd_per_hour"], listed["usd_per_month"]) == (0.5, 100.0)
    assert listed["now"]["usd_per_hour"] == 0.36
    assert listed["now"]["usd_per_month"] == pytest.approx(0.72, abs=0.01)
    shown = admin("quota", "list").stdout.splitlines()
    assert max(map(len, shown)) <= 80
    assert [line.split() for line in shown[1:]] == [
        ["ada", "(all)", "cost", "an", "hour", "0.36", "USD", "0.50", "USD"],
        ["ada", "(all)", "cost", "this", "month", "0.72", "USD", "100.00", "USD"],
    ]
    for refused, said in (
        (("--usd-per-hour", "0.2"), "costs 0.36 USD an hour, more than 0.20 USD. Give 0.36 or more"),
        (("--usd-per-hour=-1",), "--usd-per-hour: -1 is no limit."),
        (("--usd-per-month", "nan"), "--usd-per-month: nan is no limit."),
    ):
        answer = admin("quota", "set", "--user", "ada", *refused)
        assert answer.exit_code != 0
        assert said in answer.stderr
    assert admin("quota", "remove", "--user", "ada").exit_code == 0
    assert json.loads(admin("quota", "list", "--json").stdout) == {"quotas": []}


def test_rules_are_set_listed_and_removed(store: SqliteStore) -> None:
    told("retention", "set", "--outputs", "36h", "--tasks", "52w")
    told("retention", "set", "--project", "p", "--tasks", "1h")
    assert told("retention", "list")["rules"] == [
        {"project": None, "outputs": 129600.0, "tasks": 31449600.0},
        {"project": "p", "outputs": None, "tasks": 3600.0},
    ]
    shown = admin("retention", "list").output
    assert "36h" in shown
    assert "364d" in shown
    assert "for ever" in shown
    told("retention", "remove")
    assert [rule.project for rule in store.retention()] == ["p"]
    assert admin("retention", "remove").exit_code == 2


@pytest.mark.parametrize("age", ["", "30", "-1d", "30 days", "9999999d", "d", "0d", "999999w"])
def test_an_age_that_is_none_is_refused(store: SqliteStore, age: str) -> None:
    result = admin("retention", "set", f"--tasks={age}")
    assert result.exit_code == 2
    assert "90d" in result.output
    assert store.retention() == []


def test_a_rule_that_says_nothing_or_keeps_outputs_beyond_their_task_is_refused(store: SqliteStore) -> None:
    assert "--outputs" in admin("retention", "set").output
    assert "go with their task" in admin("retention", "set", "--outputs", "2d", "--tasks", "1d").output
    assert store.retention() == []


def test_a_server_applies_the_rules_by_itself(store: SqliteStore, settings: Settings) -> None:
    task = submit(store)
    finish(store, settings, task, datetime.now(UTC) - timedelta(hours=2))
    environment = {"SIMYARD_DATA_DIR": str(settings.data_dir)}
    with closing(Housekeeping(settings, environment, first=0)) as housekeeping:
        housekeeping.look()
        assert not housekeeping.is_busy, "there is no rule yet"
    told("retention", "set", "--outputs", "1h")
    with closing(Housekeeping(settings, environment, first=0)) as housekeeping:
        housekeeping.look()
        until(lambda: store.get(task).task.outputs_removed_at is not None, 60)
        until(lambda: not housekeeping.is_busy, 60)
    assert objects(settings, task) == []


def test_a_vacuum_tells_both_sizes(store: SqliteStore) -> None:
    submit(store)
    store.close()
    sizes = told("vacuum")
    assert 0 < int(str(sizes["after"])) <= int(str(sizes["before"]))


@pytest.mark.parametrize("command", [("backup", "x.db"), ("restore", "x.db"), ("check",), ("vacuum",)])
def test_a_store_in_postgresql_is_left_to_its_own_tools(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SIMYARD_STORE", "postgresql://ada:secret@db.test/yard")
    load_settings.cache_clear()
    result = admin(*command)
    assert result.exit_code == 2
    assert "pg_dump" in result.output
    assert "secret" not in result.output
