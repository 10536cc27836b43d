"""The queue in PostgreSQL: a server survives the restart of its database, and a second server takes over from it."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from tests.running_server import RunningServer, running_server, title_of, until
from tests.services.postgres import PASSWORD, PostgresServer, postgres

pytestmark = pytest.mark.waits

LEASE = 8


@pytest.fixture(scope="module")
def database_server() -> Iterator[PostgresServer]:
    """A database server of its own: others would notice that it is stopped."""
    with postgres() as server:
        yield server


def texts_of(server: RunningServer) -> str:
    """Return everything that the server has written to its logs, and the command lines of its processes."""
    known = (server.data_dir / "server" / "id").read_text().strip()
    folders = [server.data_dir / "server", Path(tempfile.gettempdir(), f"simyard-{known}")]
    logs = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in {".log", ".out", ".err", ".json"}
    ]
    lines = [title_of(process) for process in server.processes()]
    return "\n".join([path.read_text(errors="replace") for path in logs if path.is_file()] + lines)


@pytest.mark.timeout(400)
def test_tasks_go_through_while_the_database_is_restarted(database_server: PostgresServer, tmp_path: Path) -> None:
    with database_server.database() as name:
        store = database_server.url(name)
        with running_server(tmp_path, SIMYARD_STORE=store) as server:
            [first] = server.submit(("true",))
            assert server.ended(first)[0]["status"] == "succeeded"
            tasks = server.submit(("sleep", "1"), count=12)
            database_server.restart(signal.SIGQUIT)
            [last] = until(lambda: _submitted(server), what="a submission after the restart")
            ended = server.ended(*tasks, last)
            assert {task["status"] for task in ended} == {"succeeded"}
            assert all(task["result"] == len(task["attempts"]) for task in ended)
            assert not (server.data_dir / "simyard.db").exists()
            told = texts_of(server)
            for secret in (PASSWORD, unquote(PASSWORD)):
                assert secret not in told


def _submitted(server: RunningServer) -> list[str]:
    try:
        return server.submit(("true",))
    except AssertionError:  # the answer was an error, as it may be while the database is away
        return []


@pytest.mark.timeout(600)
def test_the_second_server_takes_over_when_the_machine_of_the_first_is_gone(
    database_server: PostgresServer, tmp_path: Path
) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    with database_server.database() as name:
        settings = {
            "SIMYARD_STORE": database_server.url(name),
            "SIMYARD_STORAGE": (tmp_path / "storage").as_uri(),
            "SIMYARD_LEASE_SECONDS": str(LEASE),
        }
        with running_server(homes[0], **settings) as one, running_server(homes[1], **settings) as two:
            ran = tmp_path / "ran"
            # The first leads; what the second takes runs there.
            [task] = two.submit(("sh", "-c", f'echo "$HOME" >> {ran}'))
            assert two.ended(task)[0]["status"] == "succeeded"
            assert str(homes[0]) in ran.read_text()
            [cut_off] = one.submit(("sleep", "600"))
            until(lambda: two.task(cut_off)["status"] == "running", what="a task that runs")
            doomed = [psutil.Process(keeper_of(one)), *one.processes()]
            for process in doomed:
                process.kill()
            psutil.wait_procs(doomed, timeout=30)
            [task] = two.submit(("sh", "-c", f'echo "$HOME" >> {ran}'))
            assert two.ended(task)[0]["status"] == "succeeded"
            assert str(homes[1]) in ran.read_text().splitlines()[-1]
            until(lambda: two.task(cut_off)["attempts"][-1]["number"] > 1, what="the next attempt of what was cut off")


def keeper_of(server: RunningServer) -> int:
    return int(json.loads((server.data_dir / "server" / "server.json").read_text())["keeper"])


def test_a_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    server = RunningServer(tmp_path)
    for store in ("postgresql://ada:secret@localhost/db", "postgresql://localhost/db?password=secret"):
        done = server.simyard("up", "--store", store)
        assert done.returncode == 2
        assert "--store" in done.stderr
        assert "secret" not in done.stderr


@pytest.mark.parametrize("store", ["postgres://ada:secret@localhost/db", "sqlite:///secret", "memory:secret"])
def test_another_kind_of_store_is_refused(tmp_path: Path, store: str) -> None:
    done = RunningServer(tmp_path, SIMYARD_STORE=store).simyard("up")
    assert done.returncode == 2
    assert "SIMYARD_STORE" in done.stderr
    assert "secret" not in done.stderr


def test_a_database_that_cannot_be_reached_is_told_before_anything_starts(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, SIMYARD_STORE="postgresql://ada:secret@127.0.0.1:1/db")
    done = server.simyard("up", "--detach")
    assert done.returncode == 3
    assert "cannot be opened" in done.stderr
    assert "secret" not in done.stderr
    assert not (server.data_dir / "server" / "server.json").exists()
