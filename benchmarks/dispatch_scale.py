"""How many tasks a second does the dispatcher bring to machines, and does that stay so with more tasks and machines?

    .venv/bin/python -m benchmarks.dispatch_scale [--rounds 3] [--cores 16]

The desk as the server has it, over a SQLite store on this disk; the machines and the actors on them are simulated. Five
users with two projects each have queued tasks of one core and of two, all at once. In the `burst` all tasks that run
end between two turns; in the `trickle` thirty-two of them, the oldest, as on machines that stay busy. Each
task's end is one report. The floor is the same transactions on the same store with nothing around them: for each task
one for its start, one for its end and its actor's list of inputs.

One JSON line a shape: tasks a second and CPU milliseconds a task of this process, at the median of the rounds, of ours
and of the floor, in turns; `ratio` is ours to the floor. The last lines compare ten times the machines, and ten times
the tasks: 1.0 is a task that costs the same.

Then the size of a group: seconds that one decision takes with 1,000 tasks waiting, and 100 machines there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cluster.fleet import Demand, Room, wanted
from simulators.outcome import Outcome
from simulators.work import Report, Work
from simyard.files import InputFile
from simyard.resources import GIB, Resources
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import TaskSpec
from simyard.words import new_task_id
from storage.memory import MemoryStore as Objects
from tasks.desk import Clock, Desk
from tasks.holders import HolderState, OnLeft
from tasks.placement import Host, Kind
from tasks.record import Draft
from tasks.stimulus import Dispatch, End, Progress
from tasks.store import Store, open_store

MACHINES, TASKS = (10, 100), (1000, 10_000)
TRICKLE = 32
"""Tasks that end between two turns where the machines are kept busy."""
_OUTCOME = Outcome(status=Status.SUCCEEDED, exit_code=0, stored=True)
_NEEDS = (Resources(), Resources(), Resources(cpus=2, memory=2 * GIB))


@dataclass
class Actors:
    """Simulated machines: what is given to them is written down, and nothing else is done."""

    hosts: tuple[Host, ...]
    given: deque[tuple[str, int]] = field(default_factory=deque)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def machines(self) -> tuple[Host, ...]:
        """See Holders."""
        return self.hosts

    def departed(self) -> frozenset[str]:
        """See Holders."""
        return frozenset()

    def start(self, _kind: Kind, _host: str) -> str:
        """See Holders."""
        return f"sim-{next(self.numbers)}"

    def hand_over(self, _name: str, work: Work, _left: OnLeft) -> None:
        """See Holders."""
        self.given.append((work.task, work.attempt))

    def adopt(self, _name: str, work: Work, _left: OnLeft) -> None:
        """See Holders."""
        raise AssertionError(f"nobody has left {work.task}")

    def watch(self, _name: str, _task: str, _attempt: int, _left: OnLeft) -> None:
        """See Holders."""

    def cancel(self, _name: str, task: str, _attempt: int) -> None:
        """See Holders."""
        raise AssertionError(f"nobody has cancelled {task}")

    def end(self, _name: str) -> None:
        """See Holders."""

    def ask(self) -> dict[str, HolderState | None]:
        """See Holders."""
        return {}


def drafts(count: int) -> list[Draft]:
    """Return tasks of five users."""
    return [
        Draft(
            id=new_task_id(),
            spec=TaskSpec(
                simulator="swmm",
                version="5.2.4",
                runtime=RuntimeName.NATIVE,
                project=f"p{number % 2}",
                inputs=(InputFile(path="model.inp", sha256="0" * 64, size=1),),
                commands=(Command(argv=("true",)),),
                resources=_NEEDS[number % len(_NEEDS)],
            ),
            user=f"user-{number % 5}",
            digest="d",
        )
        for number in range(count)
    ]


def fill(store: Store, count: int) -> list[str]:
    """Queue tasks, and return their ids."""
    found: list[str] = []
    for first in range(0, count, 1000):
        batch = drafts(min(1000, count - first))
        store.submit(batch, datetime.now(UTC))
        found += [draft.id for draft in batch]
    return found


def ours(store: Store, machines: int, cores: int, ends: int) -> None:
    """Bring all queued tasks to machines and to their ends, through the desk."""
    memory = 4 * cores * GIB
    hosts = tuple(
        Host(id=f"id-{i}", name=f"m{i}", group="local", cpus=cores, memory=memory, gpus=0) for i in range(machines)
    )
    actors = Actors(hosts)
    clock = Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic)
    desk = Desk(store, Objects("bench"), actors, clock, lease=3600, warm=60, storage="memory://bench")
    desk.recover()
    while True:
        desk.turn()
        if not actors.given:
            return
        for _ in range(min(ends, len(actors.given))):
            task, attempt = actors.given.popleft()
            desk.report(task, attempt, [Report(Status.RUNNING), Report(Status.FINALIZING), Report(_OUTCOME)])


def floor(store: Store, tasks: list[str]) -> None:
    """Do the same transactions, and nothing else."""
    for task in tasks:
        now = datetime.now(UTC)
        store.apply(task, Dispatch("m", "h", RuntimeName.NATIVE, now + timedelta(seconds=3600)), now)
        store.inputs(task)
        earlier = [(Progress(1, Status.RUNNING), now), (Progress(1, Status.FINALIZING), now)]
        store.apply(task, End(1, _OUTCOME), now, earlier=earlier)


def measured(folder: Path, machines: int, tasks: int, cores: int, ends: int | None) -> tuple[float, float]:
    """Return tasks a second, and CPU milliseconds of each; of the floor where `ends` is None."""
    with closing(open_store(folder / f"{new_task_id()}.db")) as store:
        ids = fill(store, tasks)
        wall, cpu = time.perf_counter(), time.process_time()
        if ends is None:
            floor(store, ids)
        else:
            ours(store, machines, cores, ends)
        took = time.perf_counter() - wall, time.process_time() - cpu
        done = store.counts().get(Status.SUCCEEDED, 0)
        assert done == tasks, f"{done} of {tasks} tasks succeeded"
    return tasks / took[0], 1000 * took[1] / tasks


def shape(machines: int, tasks: int, ends: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one shape, ours and the floor in turns."""
    rounds: dict[str, list[tuple[float, float]]] = {"ours": [], "floor": []}
    for _ in range(options.rounds):
        # A store of its own for each, deleted at once: what others left would be measured too.
        for name, found in rounds.items():
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                how = ends if name == "ours" else None
                found.append(measured(Path(folder), machines, tasks, options.cores, how))
    figures = {
        name: {
            "tasks_per_s": round(statistics.median(one[0] for one in found)),
            "cpu_ms": round(statistics.median(one[1] for one in found), 3),
        }
        for name, found in rounds.items()
    }
    ratio = {key: round(figures["ours"][key] / figures["floor"][key], 2) for key in figures["floor"]}
    return {"machines": machines, "tasks": tasks, **figures, "ratio": ratio}


def growth(cells: dict[tuple[int, int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give what a task costs with ten times the machines, and with ten times the tasks."""
    (few, many), (short, long) = MACHINES, TASKS
    for what, one, other in (
        ("ten times the machines", cells[few, long], cells[many, long]),
        ("ten times the tasks", cells[many, short], cells[many, long]),
    ):
        yield {"what": what, "cpu_ms_ratio": round(other["ours"]["cpu_ms"] / one["ours"]["cpu_ms"], 2)}


def decision(machines: int, waiting: int, kinds: int) -> dict[str, Any]:
    """Return how long it takes to decide on a group's size."""
    rooms = tuple(Room(cpus=0.5, memory=GIB, is_busy=True) for _ in range(machines))
    needs = tuple(Resources(cpus=1 + i % kinds / 100) for i in range(waiting))
    demand = Demand(rooms=rooms, waiting=needs, waiting_count=waiting)
    took = []
    for _ in range(20):
        start = time.perf_counter()
        asked = wanted(demand, Room(cpus=16, memory=60 * GIB), 0, 10_000)
        took.append(time.perf_counter() - start)
    shown = {"rooms": machines, "waiting": waiting, "kinds": kinds, "machines": asked}
    return {"what": "size of a group", **shown, "ms": round(1000 * statistics.median(took), 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=16, help="of each machine")
    parser.add_argument("--folder", type=Path, help="where the stores are made")
    options = parser.parse_args()
    print(json.dumps({"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}), flush=True)
    for name, ends in (("burst", max(TASKS)), ("trickle", TRICKLE)):
        cells = {}
        for machines, tasks in itertools.product(MACHINES, TASKS):
            cells[machines, tasks] = shape(machines, tasks, ends, options)
            print(json.dumps({"what": name, **cells[machines, tasks]}), flush=True)
        for line in growth(cells):
            print(json.dumps({"of": name, **line}), flush=True)
    for machines, waiting, kinds in ((100, 1000, 1), (100, 1000, 100), (1000, 1000, 1), (1000, 1000, 100)):
        print(json.dumps(decision(machines, waiting, kinds)), flush=True)


if __name__ == "__main__":
    main()
