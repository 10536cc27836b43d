"""One machine that shows as several."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from cluster.fork_server import MEMBER_MODULES
from tests.leftovers import nothing_left
from tests.running_server import RunningServer, running_server, those, until
from tests.services.second_machine import machines_of

WORKERS = 2
ALL = psutil.cpu_count() or 1


def raylet_of(server: RunningServer, *, head: bool) -> psutil.Process | None:
    found = those(server.processes(), lambda p: p.name() == "raylet" and ("--head" in p.cmdline()) is head)
    return found[0] if found else None


def fork_server_of(server: RunningServer) -> psutil.Process:
    """Return the process that the workers of the machine beside the head's are forked from."""

    def found() -> list[psutil.Process]:
        return those(server.fork_servers(), lambda process: tuple(process.cmdline()[4:]) == MEMBER_MODULES)

    return until(found, what="a fork server")[0]


@pytest.mark.timeout(900)
@pytest.mark.skipif(ALL < WORKERS, reason="this machine has one core")
def test_workers_share_a_machine_and_one_that_dies_comes_back_while_its_tasks_go_on(tmp_path: Path) -> None:
    with running_server(tmp_path, f"--workers={WORKERS}") as server:
        machines = until(lambda: len(found := machines_of(server)) == WORKERS and found, 60, what="both workers")
        first, second = sorted(machines)
        assert second == f"{first}-2"
        assert sum(machine["cpus"] for machine in machines.values()) == ALL
        assert len({machine["memory"] for machine in machines.values()}) == 1
        # What takes more than half of a worker's cores cannot stand beside its like.
        most = min(machine["cpus"] for machine in machines.values())
        resources = {"cpus": most, "memory": "256MiB"}
        command = ("sh", "-c", "echo began; sleep 20; echo ended")
        tasks = server.submit(command, count=WORKERS, resources=resources)
        until(lambda: {server.task(task)["status"] for task in tasks} == {"running"}, 60, what="both running")
        placed = {server.task(task)["attempts"][-1]["machine"]: task for task in tasks}
        assert placed.keys() == {first, second}
        raylet = raylet_of(server, head=False)
        assert raylet is not None
        raylet.kill()
        until(lambda: (now := raylet_of(server, head=False)) and now.pid != raylet.pid, 60, what="another raylet")
        until(lambda: machines_of(server).keys() == {first, second}, 60, what="both workers again")
        ended = {task["id"]: task for task in server.ended(*tasks, seconds=200)}
        assert {task["status"] for task in ended.values()} == {"succeeded"}
        assert len(ended[placed[first]]["attempts"]) == 1, "the other worker's task was not touched"
        last = ended[placed[second]]["attempts"][-1]
        assert len(ended[placed[second]]["attempts"]) + last["adoptions"] == 2
        gone = fork_server_of(server)
        gone.kill()
        until(lambda: fork_server_of(server).pid != gone.pid, 60, what="another fork server")
        [again] = server.submit(("true",), resources=resources)
        server.ended(again)
        nothing_left(server, *tasks, again)


def test_more_workers_than_cores_and_none_are_refused_at_once(tmp_path: Path) -> None:
    server = RunningServer(tmp_path)
    for number in (0, ALL + 1):
        done = server.simyard("up", "--detach", f"--workers={number}")
        assert done.returncode == 2
        assert f"Give a number from 1 to {ALL}." in done.stderr
    done = server.simyard("up", "--cluster=cluster.yaml", "--workers=1")
    assert done.returncode == 2
    assert "--workers" in done.stderr
    assert not (tmp_path / "data" / "server").exists()
