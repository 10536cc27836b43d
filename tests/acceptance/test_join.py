"""A machine that its owner lends to a server, and takes back."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.head import server_processes
from cluster.server_mark import mark_of, temp_dir
from tests.leftovers import nothing_left, processes_of
from tests.running_server import SIMYARD, RunningServer, running_server, those, until

pytestmark = pytest.mark.waits

NAME = "bench-1"
ROOM = {"cpus": 1, "memory": "256MiB"}


class Guest:
    """A `simyard join` in the foreground of another user's shell."""

    def __init__(self, server: RunningServer, home: Path, *options: str) -> None:
        self.home = home
        self.log = home / "join.log"
        environment = server.environment | {"SIMYARD_DATA_DIR": str(home / "data"), "SIMYARD_WORKERS": "7"}
        made = server.simyard("admin", "join-token", "create", "--json")
        assert made.returncode == 0, made.stderr
        token = json.loads(made.stdout)
        self.token_id = token["id"]
        (home / "token").write_text(token["token"])
        command = [SIMYARD, "join", server.url, "--group=bench", f"--name={NAME}", f"--token-file={home / 'token'}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--cpus=1", "--memory=1GiB", *options], env=environment, stdout=log, stderr=log, cwd=home
            )
        self.mark = mark_of((server.data_dir / "server" / "id").read_text().strip(), NAME)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ends(self, seconds: float = 90) -> None:
        """Wait until it has ended well, and check that nothing of it is left."""
        assert self.process.wait(seconds) == 0, self.said()
        assert server_processes(self.mark) == []
        assert not Path(temp_dir(self.mark)).exists()
        [folder] = (self.home / "data" / "joined").iterdir()
        assert not list((folder / "scratch").glob("*"))

    def raylet(self) -> psutil.Process | None:
        return next(iter(those(server_processes(self.mark), lambda p: p.name() == "raylet")), None)


def is_there(server: RunningServer) -> bool:
    """Say whether the server has the machine; one that has left is told of for a minute."""
    with server.http() as http:
        groups = http.get("/v1/groups").json()["groups"]
    machines = [machine for group in groups for machine in group["machines"]]
    return any(machine["name"] == NAME and not machine["is_leaving"] for machine in machines)


@contextmanager
def guest(server: RunningServer, home: Path, *options: str) -> Iterator[Guest]:
    until(lambda: not is_there(server), 90, what="that the machine of the loan before has gone")
    home.mkdir()
    joined = Guest(server, home, *options)
    try:
        until(lambda: is_there(server) or joined.process.poll() is not None, 90, what="that the machine joins")
        assert joined.process.poll() is None, joined.said()
        yield joined
    finally:
        if joined.process.poll() is None:
            joined.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            joined.process.send_signal(signal.SIGTERM)
            joined.process.wait(90)


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("lender"), SIMYARD_WARM_SECONDS="2") as server:
        yield server


@pytest.mark.timeout(600)
def test_a_lent_machine_runs_the_tasks_of_its_group_and_is_its_owners_again_after_ctrl_c(
    lender: RunningServer, tmp_path: Path
) -> None:
    with guest(lender, tmp_path / "guest", "--grace=60s") as joined:
        assert NAME in lender.simyard("groups", "list").stdout
        [first] = lender.submit(("true",), group="bench", resources=ROOM)
        [told] = lender.ended(first)
        assert (told["status"], told["attempts"][-1]["machine"]) == ("succeeded", NAME)
        # What runs when its owner wants it back may end within the grace; what waits is not begun.
        [running] = lender.submit(("sleep", "8"), group="bench", resources=ROOM)
        until(lambda: lender.task(running)["status"] == "running", what="the run")
        [waiting] = lender.submit(("true",), group="bench", resources=ROOM)
        joined.process.send_signal(signal.SIGINT)
        [told] = lender.ended(running)
        assert (told["status"], len(told["attempts"])) == ("succeeded", 1)
        joined.ends()
        assert "1 have 60 s to end" in joined.said()
        assert lender.task(waiting)["status"] == "queued"
        until(lambda: not is_there(lender), what="that the machine is gone")
    with lender.http() as http:
        assert http.post(f"/v1/tasks/{waiting}:cancel").is_success
    nothing_left(lender, first, running, waiting)


@pytest.mark.timeout(600)
def test_a_second_ctrl_c_gives_back_what_runs_without_charge_and_another_loan_goes_on_with_it(
    lender: RunningServer, tmp_path: Path
) -> None:
    with guest(lender, tmp_path / "first") as joined:
        [task] = lender.submit(("sh", "-c", "echo began; sleep 20"), group="bench", resources=ROOM)
        until(lambda: lender.task(task)["status"] == "running", what="the run")
        joined.process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C again" in joined.said(), what="that it is leaving")
        joined.process.send_signal(signal.SIGINT)
        joined.ends()  # long before the grace of five minutes is over
        until(lambda: lender.task(task)["status"] == "queued", what="that the task is queued again")
        assert lender.task(task)["attempts"][0]["reason"]["code"] == "preempted"
        assert processes_of(task) == {}
    with guest(lender, tmp_path / "second"):
        [told] = lender.ended(task, seconds=200)
        assert (told["status"], told["attempts"][-1]["machine"]) == ("succeeded", NAME)
        # It may be placed there once more before Ray knows that the machine has left.
        assert len(told["attempts"]) in (2, 3)
    nothing_left(lender, task)


@pytest.mark.timeout(600)
def test_it_joins_again_when_its_raylet_dies_and_when_the_server_starts_anew(
    lender: RunningServer, tmp_path: Path
) -> None:
    with guest(lender, tmp_path / "guest") as joined:
        raylet = joined.raylet()
        assert raylet is not None
        raylet.kill()
        until(lambda: (now := joined.raylet()) and now.pid != raylet.pid, 60, what="another raylet")
        [task] = lender.submit(("true",), group="bench", resources=ROOM)
        lender.ended(task)
        before = json.loads((lender.data_dir / "server" / "server.json").read_text())["ray_address"]
        for process in those(lender.processes(), lambda one: one.name() in {"gcs_server", "raylet"}):
            process.kill()
        until(
            lambda: json.loads((lender.data_dir / "server" / "server.json").read_text())["ray_address"] != before,
            120,
            what="another head",
        )
        until(lambda: is_there(lender), 120, what="that the machine is there again")
        [again] = lender.submit(("true",), group="bench", resources=ROOM)
        assert lender.ended(again)[0]["status"] == "succeeded"
        joined.process.send_signal(signal.SIGTERM)
        joined.ends()
    nothing_left(lender, task, again)


@pytest.mark.timeout(600)
def test_after_a_command_that_was_killed_another_one_ends_what_is_left_and_joins(
    lender: RunningServer, tmp_path: Path
) -> None:
    home = tmp_path / "guest"
    with guest(lender, home) as joined:
        [task] = lender.submit(("sleep", "15"), group="bench", resources=ROOM)
        until(lambda: lender.task(task)["status"] == "running", what="the run")
        joined.process.kill()
        joined.process.wait()
        left = joined.raylet()
        assert left is not None, "nobody was there to end it"
        again = Guest(lender, home)
        try:
            until(
                lambda: not left.is_running() or again.process.poll() is not None, 60, what="the end of what was left"
            )
            until(lambda: (now := again.raylet()) and now.pid != left.pid, 90, what=f"another raylet: {again.said()}")
            [told] = lender.ended(task, seconds=200)
            assert (told["status"], told["attempts"][-1]["machine"]) == ("succeeded", NAME)
        finally:
            again.process.send_signal(signal.SIGINT)
            again.ends()
    nothing_left(lender, task)


@pytest.mark.timeout(300)
def test_who_may_not_join_hears_why_at_once(lender: RunningServer, tmp_path: Path) -> None:
    with guest(lender, tmp_path / "guest") as joined:
        token = joined.home / "token"
        tried = {
            f"--name={NAME}": "has a machine bench-1 already",
            "--cpus=1000": "--cpus",
            "--memory=1000TiB": "--memory",
            "--group=no/name": "--group",
            "--grace=soon": "--grace",
        }
        for option, fix in tried.items():
            options = {"--group": "bench", "--name": "other", "--token-file": str(token)}
            given = [f"{n}={v}" for n, v in options.items() if not option.startswith(n)]
            done = lender.simyard("join", lender.url, *given, option)
            assert (done.returncode, fix in done.stderr) == (2, True), done.stderr
        assert lender.simyard("admin", "join-token", "revoke", joined.token_id).returncode == 0
        done = lender.simyard("join", lender.url, "--group=bench", "--name=other", f"--token-file={token}")
        assert done.returncode == 2
        assert "was revoked" in done.stderr
        done = lender.simyard("join", lender.url, "--group=bench", "--name=other", stdin=lender.key + "\n")
        assert "not a join token" in done.stderr
        assert done.returncode == 2
        done = lender.simyard("join", "http://127.0.0.1:9", "--group=bench", f"--token-file={token}")
        assert done.returncode == 3
        assert "--host" in done.stderr
        assert is_there(lender), "one that has joined stays"
