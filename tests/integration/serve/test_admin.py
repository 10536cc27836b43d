"""`simyard admin` as an operator types it, over a real database and a real folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

from simyard.cli.app import build
from simyard.status import Status
from storage.manifest import commit_manifest
from storage.objects import open_store as open_storage
from storage.outcomes import put_outcome
from storage.settings import Settings, load_settings
from tasks.lifecycle import Cancel, End, Progress
from tasks.sqlite.store import SqliteStore
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


def test_retention_removes_what_is_old_with_all_it_stored(store: SqliteStore, settings: Settings) -> None:
    now = datetime.now(UTC)
    old, other, young, going = submit(store), submit(store, project="keep"), submit(store), submit(store)
    for task in (old, other):
        finish(store, settings, task, now - timedelta(days=31))
    store.apply(young, Cancel(), now - timedelta(days=29))
    rules = ("retention", "--older-than", "30d", "--project", "default")
    assert told(*rules, "--dry-run") == {"tasks": 1, "bytes": None, "dry_run": True}
    assert store.get(old).task.result == 1
    assert told(*rules)["tasks"] == 1
    assert told(*rules)["tasks"] == 0
    assert {record.id for record in store.ended(now, 10)} == {other, young}
    assert store.get(going).status is Status.QUEUED
    keys = [info.key for info in open_storage(settings.storage_uri).list("")]
    assert not [key for key in keys if old in key]
    assert [key for key in keys if other in key]
    assert told("check") == {"troubles": []}


@pytest.mark.parametrize("age", ["", "30", "-1d", "30 days", "9999999d", "d"])
def test_an_age_that_is_none_is_refused(store: SqliteStore, age: str) -> None:
    result = admin("retention", "--older-than", age)
    assert result.exit_code == 2
    assert "90d" in result.output


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
