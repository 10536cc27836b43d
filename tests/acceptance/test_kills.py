"""Any one process of ours is killed with SIGKILL while tasks run: nothing is lost and nothing is there twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from serve.server import is_healthy
from tests.leftovers import nothing_left
from tests.running_server import RunningServer, running_server, those, until

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: others would notice what is done to it."""
    with running_server(tmp_path_factory.mktemp("killed")) as running:
        yield running


def kill_one(server: RunningServer, title: str) -> None:
    found = until(lambda: server.processes(title), what=f"a process {title}")
    found[0].kill()
    psutil.wait_procs(found[:1], timeout=10)


def running(server: RunningServer, task: str) -> bool:
    return bool(server.task(task)["status"] == "running")


@pytest.mark.timeout(400)
def test_200_tasks_survive_the_death_of_the_dispatcher_and_of_an_actor(server: RunningServer, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    tasks = server.submit(("sleep", "1"), ("sh", "-c", f"echo $SIMYARD_BOX >> {journal}"), count=200)
    assert len(set(tasks)) == 200
    until(lambda: journal.exists() and len(journal.read_text().splitlines()) > 10, what="some ends")
    kill_one(server, "ray::DispatcherActor")
    until(lambda: len(journal.read_text().splitlines()) > 80, what="more ends")
    kill_one(server, "ray::SimulatorActor")

    ended = server.ended(*tasks, seconds=300)

    assert {task["status"] for task in ended} == {"succeeded"}
    # Exactly one attempt of each is the result, and only what was killed was done again.
    assert all(task["result"] == len(task["attempts"]) for task in ended)
    again = [task for task in ended if len(task["attempts"]) > 1]
    assert len(again) <= 2
    boxes = journal.read_text().split()
    assert len(set(boxes)) == len(boxes)
    assert len(boxes) <= 200 + len(again)


@pytest.mark.parametrize(
    "victim",
    [
        "ray::SimulatorActor.carry",
        "ray::DispatcherActor",
        "ray::ServeReplica",
        "ray::ServeController",
    ],
)
def test_a_task_outlives_the_death_of_any_process_of_the_server(server: RunningServer, victim: str) -> None:
    (task,) = server.submit(("sleep", "3"))
    until(lambda: running(server, task), what="a running task")
    kill_one(server, victim)
    (ended,) = server.ended(task, seconds=150)
    assert (ended["status"], ended["result"], len(ended["attempts"])) == ("succeeded", 1, 1)
    assert ended["attempts"][0]["adoptions"] == (1 if "carry" in victim else 0)


def test_a_task_outlives_the_death_of_its_supervisor(server: RunningServer) -> None:
    (task,) = server.submit(("sleep", "3"))
    until(lambda: running(server, task), what="a running task")
    [supervisor] = [
        p
        for p in psutil.process_iter(["cmdline"])
        if (line := " ".join(p.info["cmdline"] or ())).startswith("simyard supervisor of ") and task in line
    ]
    supervisor.kill()
    (ended,) = server.ended(task)
    assert (ended["status"], len(ended["attempts"])) == ("succeeded", 2)
    assert ended["attempts"][0]["reason"]["code"] == "machine-lost"


@dataclass(frozen=True)
class Waiter:
    """A task that writes down each of its beginnings, and ends when it is told to."""

    server: RunningServer
    task: str
    folder: Path

    @property
    def beginnings(self) -> list[str]:
        journal = self.folder / "journal"
        return journal.read_text().split() if journal.exists() else []

    def go(self) -> None:
        (self.folder / "go").touch()

    def adoptions(self) -> int:
        return int(self.server.task(self.task)["attempts"][-1]["adoptions"])

    def ends_once(self, seconds: float = 150) -> None:
        """Let it end, and check that it ran once, under one number, and that nothing is left of it."""
        self.go()
        (ended,) = self.server.ended(self.task, seconds=seconds)
        assert (ended["status"], ended["result"], len(ended["attempts"])) == ("succeeded", 1, 1)
        assert len(self.beginnings) == 1
        nothing_left(self.server, self.task)


@pytest.fixture
def waiter(server: RunningServer, tmp_path: Path) -> Waiter:
    script = f"echo $$ >> {tmp_path}/journal; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo made > out"
    (task,) = server.submit(("sh", "-c", script))
    found = Waiter(server, task, tmp_path)
    until(lambda: found.beginnings and running(server, task), what="a running task")
    return found


def test_a_run_is_taken_over_again_and_again_and_can_be_followed_and_cancelled(
    server: RunningServer, waiter: Waiter
) -> None:
    for i in range(1, 3):
        kill_one(server, "ray::SimulatorActor.carry" if i == 1 else "ray::SimulatorActor.adopt")
        until(lambda i=i: waiter.adoptions() == i, what="that it was taken over")
    (pid,) = waiter.beginnings
    assert psutil.pid_exists(int(pid))
    with server.http() as http:
        until(
            lambda: http.get(f"/v1/tasks/{waiter.task}/files").status_code == 200,
            what="the files of the run that was taken over",
        )
        assert http.post(f"/v1/tasks/{waiter.task}:cancel").is_success
    (ended,) = server.ended(waiter.task)
    assert (ended["status"], len(ended["attempts"])) == ("cancelled", 1)
    nothing_left(server, waiter.task)


def test_a_run_outlives_the_death_of_its_actor_and_of_the_dispatcher_together(
    server: RunningServer, waiter: Waiter
) -> None:
    for process in server.processes("ray::SimulatorActor.carry") + server.processes("ray::DispatcherActor"):
        process.kill()
    until(lambda: waiter.adoptions() == 1, what="that it was taken over")
    waiter.ends_once()


@pytest.mark.timeout(400)
def test_a_dispatcher_and_a_replica_that_stand_still_are_replaced(server: RunningServer, waiter: Waiter) -> None:
    frozen = server.processes("ray::DispatcherActor") + server.processes("ray::ServeReplica")
    assert len(frozen) == 2
    for process in frozen:
        process.suspend()
    try:
        until(lambda: not any(process.is_running() for process in frozen), 200, what="the end of both")
    finally:
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()
    until(lambda: is_healthy(server.url, "/v1/ready"), 120, what="a server that is ready")
    waiter.ends_once()


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
@pytest.mark.timeout(400)
def test_the_keeper_brings_a_dead_head_back_and_runs_go_on_meanwhile(
    server: RunningServer, waiter: Waiter, victim: str
) -> None:
    [process] = those(server.processes(), lambda p: p.name() == victim)
    process.kill()
    until(lambda: not is_healthy(server.url), what="that the server does not answer")
    until(lambda: is_healthy(server.url), 240, what="that the server answers again")
    until(lambda: waiter.adoptions() == 1, 120, what="that it was taken over")
    waiter.ends_once()


def test_a_server_whose_keeper_was_killed_goes_on_and_can_be_stopped_and_started(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = RunningServer(tmp_path_factory.mktemp("unkept"))
    try:
        server.start()
        kill_one(server, f"{sys.executable} -m serve.keeper")
        (task,) = server.submit(("true",))
        assert server.ended(task)[0]["status"] == "succeeded"
        server.stop()
        server.start()
        assert server.task(task)["status"] == "succeeded"
    finally:
        server.stop()
