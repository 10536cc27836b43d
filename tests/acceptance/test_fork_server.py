"""The workers of a server are forked from one process, and are no worse for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serve.server import is_healthy
from tests.running_server import RunningServer, running_server, those, until

# Asks three workers as they are, and one with an environment of its own, which Ray starts by itself, what they are.
PROGRAM = """
import json, os, random, sys, uuid
import numpy, psutil, ray

ray.init(address=sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=0)
class One:
    def tell(self):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        mask = os.umask(0o77)
        os.umask(mask)
        return {
            "drawn": [ray.WorkerID.from_random().hex(), random.random(), uuid.uuid4().hex, numpy.random.random()],
            "parent": psutil.Process().parent().pid,
            "own": os.environ.get("OWN"),
            "alike": {
                # Python 3.13's readline sets the last two when it is imported.
                "environment": sorted(os.environ.keys() - {"OWN", "COLUMNS", "LINES"}),
                "path": sorted(sys.path),
                "program": sys.argv[0],
                "flags": str(sys.flags),
                "folder": os.getcwd(),
                "leads": os.getpgid(0) == os.getpid(),
                "nice": os.getpriority(os.PRIO_PROCESS, 0),
                "oom_score": open("/proc/self/oom_score_adj").read(),
                "signals": [status[name].strip() for name in ("SigIgn", "SigBlk")],
                "mask": mask,
                "files": [os.readlink(f"/proc/self/fd/{number}").split("-")[0] for number in (0, 1, 2)],
            },
        }

actors = [One.remote() for _ in range(3)] + [One.options(runtime_env={"env_vars": {"OWN": "yes"}}).remote()]
print(json.dumps(ray.get([actor.tell.remote() for actor in actors], timeout=120)))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: others would notice what is done to it."""
    with running_server(tmp_path_factory.mktemp("forked")) as running:
        yield running


def one(server: RunningServer, title: str) -> psutil.Process:
    return until(lambda: server.processes(title), what=f"a process {title}")[0]


def fork_server(server: RunningServer) -> psutil.Process:
    [one] = until(server.fork_servers, what="a fork server")
    return one


def workers(server: RunningServer) -> list[dict[str, Any]]:
    head = one_named(server, "gcs_server")
    # As a user's program has it: what the server has for its own workers is not there.
    told = {name: value for name, value in head.environ().items() if name.startswith("RAY_AUTH_")}

    def address() -> str:
        # A new head may answer a moment before it is written down.
        written: str = json.loads((server.data_dir / "server" / "server.json").read_text())["ray_address"]
        return written if f"--gcs_server_port={written.rpartition(':')[2]}" in head.cmdline() else ""

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, until(address, what="the address of the head")],
        env=server.environment | told,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_forked_workers_are_what_ray_would_have_started_and_draw_nothing_twice(server: RunningServer) -> None:
    are_alike(server)
    new_head(server)  # which is a fork itself
    are_alike(server)


def are_alike(server: RunningServer) -> None:
    *forked, started = workers(server)

    assert {worker["parent"] for worker in forked} == {fork_server(server).pid}
    assert (started["parent"], started["own"]) == (one_named(server, "raylet").pid, "yes")
    for drawn in zip(*(worker["drawn"] for worker in [*forked, started]), strict=True):
        assert len(set(drawn)) == 4
    for worker in forked:
        for what, expected in started["alike"].items():
            assert (what, worker["alike"][what]) == (what, expected)


def one_named(server: RunningServer, name: str) -> psutil.Process:
    [found] = until(lambda: those(server.processes(), lambda process: process.name() == name), what=name)
    return found


def forks(server: RunningServer, title: str, of: psutil.Process) -> list[psutil.Process]:
    return those(server.processes(title), lambda process: process.ppid() == of.pid)


WORKERS = ("ray::DispatcherActor", "ray::ServeReplica", "ray::SimulatorActor")


def new_head(server: RunningServer) -> None:
    one_named(server, "raylet").kill()
    until(lambda: not is_healthy(server.url, "/v1/ready"), what="that the server is not ready")
    until(lambda: is_healthy(server.url, "/v1/ready"), 240, what="that the server is ready again")


def test_workers_end_with_their_raylet_and_the_next_one_has_the_same_fork_server(server: RunningServer) -> None:
    server.ended(*server.submit(("true",)))
    before, workers = fork_server(server), [one(server, title) for title in WORKERS]
    new_head(server)
    psutil.wait_procs(workers, timeout=10)
    assert not [worker for worker in workers if worker.is_running()]
    assert fork_server(server) == before
    server.ended(*server.submit(("true",)))
    assert {one(server, title).ppid() for title in WORKERS} == {before.pid}


def test_without_it_workers_go_on_and_another_one_is_there_for_the_next(server: RunningServer) -> None:
    [task] = server.submit(("sleep", "3"))
    until(lambda: server.task(task)["status"] == "running", what="a running task")
    gone, workers = fork_server(server), [one(server, title) for title in WORKERS]
    gone.kill()
    psutil.wait_procs([gone], timeout=10)

    [ended] = server.ended(task)
    assert (ended["status"], len(ended["attempts"]), ended["attempts"][0]["adoptions"]) == ("succeeded", 1, 0)
    assert all(worker.is_running() for worker in workers)
    another = fork_server(server)
    assert another != gone
    one(server, "ray::ServeReplica").kill()
    until(lambda: forks(server, "ray::ServeReplica", another), 60, what="a fork")
    until(lambda: is_healthy(server.url, "/v1/ready"), 60, what="that the server is ready again")


def test_without_the_keeper_it_goes_on_for_its_raylet_and_ends_with_it(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        serves = fork_server(server)
        keeper = psutil.Process(json.loads((server.data_dir / "server" / "server.json").read_text())["keeper"])
        keeper.kill()
        psutil.wait_procs([keeper], timeout=10)
        one(server, "ray::DispatcherActor").kill()
        until(lambda: forks(server, "ray::DispatcherActor", serves), 60, what="a fork")
        one_named(server, "raylet").kill()
        psutil.wait_procs([serves], timeout=10)
        assert not serves.is_running()
