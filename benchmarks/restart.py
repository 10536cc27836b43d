"""How long until a server with 100,000 queued tasks serves again after one of its processes was killed?

    .venv/bin/python -m benchmarks.restart [--queued 100000] [--rounds 3] [--only NAME ...] [--json]

Two servers, one after the other, as `simyard up` starts them: one without a queue and one whose queue is so long and
is held back by a pause of its project. In each the Serve replica, the dispatcher, then all of Ray, and last
everything but the keeper are killed with SIGKILL, and Simyard is left alone with it. Given are medians of the rounds,
in seconds from the kill: until a GET of a task `answers`, until a submission is `accepted`, and until a held task
that is released at once runs (`starts`), on an actor that is warm except after the kill of all. `calm` is the last of
these with nothing killed. The keeper, the process that watches Ray, is not killed: that Ray comes back is its work.
Nor does Ray own the process that its workers are forked from, which `everything` counts.

The floor is `bare_ray`: an actor, and a Serve deployment of one route, on a Ray of their own, killed in the same way.
`in_process` is what of all this is ours and may depend on the queue: opening the store, the first answers from it, and
the dispatcher's `recover` and first `turn`, without Ray and with no machine. `imports` are the seconds in which a fresh
Python imports Ray with Serve, and all that a replica and a dispatcher import.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.bare_ray import WITHIN, bare_ray
from benchmarks.batch_rate import drafts, grow
from cluster.head import server_processes
from simulators.work import Work
from storage.memory import MemoryStore
from tasks.desk import Clock, Desk
from tasks.holders import HolderState, OnLeft
from tasks.placement import Host, Kind
from tasks.record import TaskQuery
from tasks.sqlite.store import SqliteStore
from tests.running_server import RunningServer, running_server, until

SEED = 1000
"""Tasks that are submitted; the others are copied in the store."""
Figures = dict[str, Any]

_APPLICATION = """
@ray.remote(num_cpus=0, max_restarts=-1)
class BareActor:
    def answer(self):
        return "yes"

actor = BareActor.options(name="bare", namespace="bare", lifetime="detached").remote()
app = FastAPI()

@serve.deployment(name="api", health_check_period_s=5)
@serve.ingress(app)
class Api:
    @app.get("/replica")
    def replica(self):
        return "yes"

    @app.get("/actor")
    async def actor(self):
        return await ray.get_actor("bare", namespace="bare").answer.remote()

serve.run(Api.bind(), route_prefix="/")
"""


def seconds_until(what: str, condition: Callable[[], bool], start: float) -> float:
    """Return the seconds since `start` when something is true; between two looks are 20 ms."""
    while not condition():
        if time.monotonic() - start > WITHIN:
            raise SystemExit(f"{what}: not within {WITHIN:g} s")
        time.sleep(0.02)
    return time.monotonic() - start


def asks(http: httpx.Client, method: str, place: str, wanted: int = 200, **more: Any) -> bool:
    """Say whether a request is answered as it should be; one that hangs is not."""
    try:
        return http.request(method, place, timeout=5, **more).status_code == wanted
    except httpx.HTTPError:
        return False


class Patient:
    """A running server, what is done to it, and how long it takes."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._spec = {
            "simulator": "swmm",
            "runtime": "native",
            "commands": [{"argv": ["sleep", "0.1"]}],
            "inputs": [{"path": "in.txt", **server.put(b"input\n")}],
            "resources": {"cpus": 0.25, "memory": "256MiB"},
        }

    def fill(self, count: int) -> None:
        """Queue tasks of a project that is paused."""
        if not count:
            return
        with self._server.http() as http:
            http.post("/v1/projects/many:pause").raise_for_status()
            spec = self._spec | {"project": "many"}
            tasks = {"tasks": [{"spec": spec} for _ in range(min(count, SEED))]}
            http.post("/v1/tasks:batch", json=tasks, timeout=120).raise_for_status()
        grow(self._server.data_dir / "simyard.db", count)

    def suffer(self, kill: Callable[[], float] | None) -> dict[str, float]:
        """Kill something, and return when it is as good as new; without `kill`, how quick it is at all."""
        with self._server.http() as http:
            [probe] = self._server.submit(["sleep", "0.1"])
            self._server.ended(probe)
            [held] = self._held(http)
            start = time.monotonic() if kill is None else kill()
            place = f"/v1/tasks/{held}"
            answers = seconds_until("an answer", lambda: asks(http, "GET", place), start)
            seconds_until("the release", lambda: asks(http, "POST", f"{place}:release"), start)
            submit = partial(asks, http, "POST", "/v1/tasks", 201, json=self._spec)
            found = {
                "answers": answers,
                "accepted": seconds_until("the submission", submit, start),
                "starts": seconds_until("the start", lambda: self._runs(http, held), start),
            }
        self._server.ended(held)
        return found

    def _held(self, http: httpx.Client) -> list[str]:
        """Submit a task that does not start, in a project that is paused for so long."""
        http.post("/v1/projects/probe:pause").raise_for_status()
        tasks = self._server.submit(["sleep", "0.1"], project="probe")
        for task in tasks:
            http.post(f"/v1/tasks/{task}:hold").raise_for_status()
        http.post("/v1/projects/probe:resume").raise_for_status()
        return tasks

    def _runs(self, http: httpx.Client, task: str) -> bool:
        try:
            answer = http.get(f"/v1/tasks/{task}", timeout=5)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json()["status"] not in {"queued", "preparing"}

    def kill(self, title: str) -> float:
        """Kill the processes whose title begins so, or those of Ray, and the keeper in no case; says when."""
        keeper = json.loads((self._server.data_dir / "server" / "server.json").read_text())["keeper"]
        spared = {keeper}
        if title == _RAY:
            title = ""
            spared |= {process.pid for process in self._server.fork_servers()}
        found = [process for process in self._server.processes(title) if process.pid not in spared]
        if not found:
            raise SystemExit(f"there is no process {title}")
        # Its keeper hears of it before all of them are gone.
        began = time.monotonic()
        end(found)
        return began


def end(processes: list[psutil.Process]) -> None:
    """Kill processes and return once they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # workers end with their raylet
            process.kill()
    psutil.wait_procs(processes, timeout=10)


_RAY = "all of Ray"
_BLOWS = {"replica": "ray::ServeReplica", "dispatcher": "ray::DispatcherActor", "ray": _RAY, "everything": ""}


def whole(home: Path, queued: int, options: argparse.Namespace) -> Figures:
    """Measure a server with so many queued tasks, and afterwards its store in this process."""
    home.mkdir()
    with running_server(home) as server:
        patient = Patient(server)
        patient.fill(queued)
        found: Figures = {"calm": medians([patient.suffer(None) for _ in range(options.rounds)])["starts"]}
        for name, title in _BLOWS.items():
            found[name] = medians(
                [patient.suffer(lambda title=title: patient.kill(title)) for _ in range(options.rounds)]
            )
            print(queued, name, json.dumps(found[name]), file=sys.stderr, flush=True)
    found["in_process"] = medians([in_process(server.data_dir / "simyard.db") for _ in range(options.rounds + 1)][1:])
    return found


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}


class NoMachines:
    """Holders of a cluster without a machine, and so without an actor."""

    def machines(self) -> tuple[Host, ...]:
        """Return none."""
        return ()

    def departed(self) -> frozenset[str]:
        """Return none."""
        return frozenset()

    def start(self, kind: Kind, host: str) -> str:
        """Never called."""
        raise NotImplementedError

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        """Never called."""

    def adopt(self, name: str, work: Work, left: OnLeft) -> None:
        """Never called."""

    def watch(self, name: str, task: str, attempt: int, left: OnLeft) -> None:
        """Never called."""

    def cancel(self, name: str, task: str, attempt: int) -> None:
        """Never called."""

    def end(self, name: str) -> None:
        """Never called."""

    def ask(self) -> Mapping[str, HolderState | None]:
        """Return none."""
        return {}


def in_process(database: Path) -> dict[str, float]:
    """Return the seconds that the parts of a start which meet the queue take in this process."""
    found: dict[str, float] = {}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        made = act()
        found[name] = time.perf_counter() - began
        return made

    with closing(timed("open", lambda: SqliteStore(database))) as store:
        timed("counts", store.counts)
        [newest] = store.list(TaskQuery(limit=1))
        timed("get", lambda: store.get(newest.id))
        clock = Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic)
        desk = Desk(store, MemoryStore(), NoMachines(), clock, lease=30, warm=60, storage="memory://")
        timed("recover", desk.recover)
        timed("turn", desk.turn)
        timed("queue", lambda: store.queue(datetime.now(UTC), 1000))
        timed("submit", lambda: store.submit(drafts(1), datetime.now(UTC)))
    return found


def bare(options: argparse.Namespace) -> Figures:
    """Return how long Ray itself takes to bring back a replica and an actor with nothing in them."""
    found: dict[str, float] = {}
    with bare_ray(_APPLICATION) as (name, url), httpx.Client(base_url=url, trust_env=False) as http:
        for what, title in (("replica", "ray::ServeReplica"), ("actor", "ray::BareActor")):
            rounds = []
            for _ in range(options.rounds):
                until(lambda what=what: asks(http, "GET", f"/{what}"), WITHIN)
                end([one for one in server_processes(name) if " ".join(one.cmdline()).startswith(title)])
                rounds.append(seconds_until(what, lambda what=what: asks(http, "GET", f"/{what}"), time.monotonic()))
            found[what] = round(statistics.median(rounds), 3)
    return found


def imports(options: argparse.Namespace) -> Figures:
    """Return the seconds in which a fresh Python imports what the processes need."""
    found: dict[str, float] = {}
    for name, modules in {
        "python": "sys",
        "ray_serve": "ray.serve",
        "replica": "serve.deployment, serve.api",
        "dispatcher": "tasks.dispatcher",
    }.items():
        rounds = []
        for _ in range(options.rounds + 1):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {modules}"], check=True, timeout=WITHIN)
            rounds.append(time.perf_counter() - began)
        # The first round fills the caches.
        found[name] = round(statistics.median(rounds[1:]), 3)
    return found


def ratios(long: Mapping[str, Any], none: Mapping[str, Any]) -> Figures:
    """Return how many times as long everything takes with the queue."""
    return {
        name: ratios(value, none[name]) if isinstance(value, Mapping) else round(value / none[name], 2)
        for name, value in long.items()
        if none[name]
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of the figures to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing before it")
    options = parser.parse_args()
    # Ray's sockets lie below this folder, and a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sy") as folder:
        home = Path(folder)
        todo: dict[str, Callable[[], Figures]] = {
            "imports": lambda: imports(options),
            "bare_ray": lambda: bare(options),
            "no_queue": lambda: whole(home / "none", 0, options),
            "long_queue": lambda: whole(home / "long", options.queued, options),
        }
        found: dict[str, Figures] = {}
        for name, act in todo.items():
            if options.only and name not in options.only:
                continue
            found[name] = act()
            if not options.json:
                print(name, json.dumps(found[name]), flush=True)
    if {"long_queue", "no_queue"} <= found.keys():
        found["ratio"] = ratios(found["long_queue"], found["no_queue"])
    if options.json:
        told = {"benchmark": "restart", "cores": os.cpu_count(), "load": os.getloadavg()[0], "queued": options.queued}
        print(json.dumps(told | found))
    elif "ratio" in found:
        print("ratio", json.dumps(found["ratio"]))


if __name__ == "__main__":
    main()
