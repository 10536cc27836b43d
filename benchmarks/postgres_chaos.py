"""What happens to tasks in PostgreSQL when workers, connections or the database server die?

    .venv/bin/python -m benchmarks.postgres_chaos [--cell NAME] [--seconds 20] [--workers 4] [--seed 1]

The five cells of the public chaos suite for job queues on PostgreSQL. A server is started for each, with fsync on. One
process submits 25 tasks a second, with idempotency keys. The workers are processes that use only the store: they take
queued tasks, report on them, and give back those whose lease has run out. One JSON line for each cell:

- `jobs_lost`: accepted tasks that did not succeed although there was time; `invented`: tasks that nobody submitted;
- `doubled`: tasks with two accepted results; `re_executed`: tasks that needed a second attempt;
- `chaos_recovery_time_s`: from the first blow until two seconds begin in which tasks end at 80 % of the rate before;
- `recovery_ratio`: the rate at which they ended after the last blow, without its first two seconds, over that before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psycopg

from simulators.outcome import Outcome
from simyard.event import EventKind
from simyard.files import InputFile
from simyard.reason import Reason, ReasonCode
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import TaskSpec
from simyard.words import new_task_id
from tasks.errors import Refused, StoreUnavailable
from tasks.lifecycle import Dispatch, End, Lost, Progress, Renew, Stimulus
from tasks.postgres.store import PostgresStore
from tasks.record import Draft, TaskQuery, TaskRecord
from tests.services.postgres import PostgresServer, postgres

T = TypeVar("T")

LEASE = 3.0
"""Seconds; short, so that one run shows many leases that run out."""
BATCH, EVERY = 5, 0.2
"""The producer submits so many at a time, once in so many seconds: a load that the workers can bear."""
OPTIONS = ("max_connections=40", "superuser_reserved_connections=0")
"""Of the server: so few connections that they can be exhausted."""
AHEAD = 60
"""A worker picks one of so many tasks."""
_SPEC = TaskSpec(
    simulator="none",
    version="1",
    runtime=RuntimeName.NATIVE,
    inputs=(InputFile(path="in.txt", sha256="0" * 64, size=0),),
    commands=(Command(argv=("true",)),),
)
_OUTCOME = Outcome(status=Status.SUCCEEDED, exit_code=0, stored=True)
_EXPIRED = Reason(code=ReasonCode.MACHINE_LOST, message="Its worker did not renew the lease in time.")


# What the processes do.


def insist(act: Callable[[], T]) -> T:
    """Return what a call gives, made again until the database takes it: each call of ours may be repeated."""
    for tries in itertools.count(1):
        try:
            return act()
        except StoreUnavailable:
            time.sleep(min(0.05 * 2 ** min(tries, 5), 1.0) * random.uniform(0.5, 1.0))
    raise AssertionError


def produce(store: PostgresStore, name: str) -> None:
    """Submit for ever; print the ids of a batch once it is accepted, as `accepted ID…`."""
    due = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + EVERY, time.monotonic())
        drafts = [
            Draft(id=new_task_id(), spec=_SPEC, user="chaos", key=f"{name}-{number}-{i}", digest="d")
            for i in range(BATCH)
        ]
        answers = insist(lambda drafts=drafts: store.submit(drafts, now()))
        print("accepted", *[answer.record.id for answer in answers if answer.record], flush=True)


def work(store: PostgresStore, name: str) -> None:
    """Carry tasks for ever; print `ended ID TIME` for each that this worker has brought to its end."""
    looked = 0.0
    while True:
        if time.monotonic() - looked > LEASE / 6:
            looked = time.monotonic()
            for record in insist(store.active):
                if record.lease_until is not None and record.lease_until < now():
                    report(store, record.id, Lost(record.attempt, _EXPIRED))
        queue = insist(lambda: store.queue(now(), AHEAD))
        if not queue:
            time.sleep(0.01)
            continue
        task = random.choice(queue).id
        record = report(store, task, Dispatch(name, name, RuntimeName.NATIVE, now() + timedelta(seconds=LEASE)))
        if record is None:
            continue  # another worker has it
        number = record.attempt
        for stimulus in (
            Progress(number, Status.RUNNING),
            Renew(number, now() + timedelta(seconds=LEASE)),
            Progress(number, Status.FINALIZING),
            End(number, _OUTCOME),
        ):
            if report(store, task, stimulus) is None:
                break
        else:
            print("ended", task, time.time(), flush=True)


def report(store: PostgresStore, task: str, stimulus: Stimulus) -> TaskRecord | None:
    """Return the record after a stimulus that was taken, now or by an earlier try; None where it was refused."""
    try:
        return insist(lambda: store.apply(task, stimulus, now()))
    except Refused as refused:
        return insist(lambda: store.get(task)) if refused.duplicate else None


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


# The cells.


@dataclass
class Field:
    """A server with its producer and its workers, and what they have said."""

    server: PostgresServer
    database: str
    folder: Path
    chance: random.Random
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    made: int = 0

    def start(self, role: str) -> str:
        """Start a process; its output goes to a file of its own."""
        name = f"{role}-{self.made}"
        self.made += 1
        environment = os.environ | {"CHAOS_STORE": self.server.url(self.database), "PYTHONPATH": ":".join(sys.path)}
        with (self.folder / name).open("wb") as output, (self.folder / "errors").open("ab") as errors:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.postgres_chaos", "--role", role, "--name", name],
                env=environment,
                stdout=output,
                stderr=errors,
                stdin=subprocess.DEVNULL,
            )
        return name

    def kill(self, name: str) -> None:
        """Kill a process."""
        process = self.workers.pop(name)
        process.kill()
        process.wait(30)

    def names(self, role: str) -> list[str]:
        """Return the living processes of a kind."""
        return [name for name in self.workers if name.startswith(role)]

    def said(self, word: str) -> list[list[str]]:
        """Return the whole lines that any process has printed and that begin with a word, as words."""
        files = [path for path in self.folder.iterdir() if path.name != "errors"]
        lines = [line for path in files for line in path.read_text().split("\n")[:-1]]
        return [line.split()[1:] for line in lines if line.startswith(word + " ")]

    def ends(self) -> list[float]:
        """Return when tasks ended, in order."""
        return sorted(float(when) for _, when in self.said("ended"))


def crash_recovery(chaos: Field, _seconds: float) -> None:
    """Kill all workers at once and start as many again."""
    names = chaos.names("worker")
    for name in names:
        chaos.kill(name)
    for _ in names:
        chaos.start("worker")


def repeated_kills(chaos: Field, seconds: float) -> None:
    """Kill one worker after the other, and start another one each time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        chaos.kill(chaos.chance.choice(chaos.names("worker")))
        chaos.start("worker")
        time.sleep(seconds / 5)


def postgres_restart(chaos: Field, _seconds: float) -> None:
    """Stop the server without a checkpoint, so that it has to recover, and start it again."""
    chaos.server.restart(signal.SIGQUIT)


def pg_backend_kill(chaos: Field, seconds: float) -> None:
    """End all connections, again and again."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        chaos.server.kill_backends(chaos.database)
        time.sleep(seconds / 10)


def pool_exhaustion(chaos: Field, seconds: float) -> None:
    """Take every connection that the server has, and give them back after a while."""
    ends = time.monotonic() + seconds
    with ExitStack() as taken:
        while time.monotonic() < ends:
            with suppress(psycopg.OperationalError):
                # What the workers hold is taken from them one by one.
                holder = taken.enter_context(psycopg.connect(chaos.server.url(), autocommit=True))
                holder.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'simyard' LIMIT 1"
                )
                continue
            time.sleep(0.01)


CELLS = {cell.__name__: cell for cell in (
    crash_recovery, repeated_kills, postgres_restart, pg_backend_kill, pool_exhaustion
)}  # fmt: skip


def run(server: PostgresServer, cell: str, seconds: float, workers: int, seed: int) -> dict[str, object]:
    """Return the figures of a cell: so many seconds before the blows, as many of blows, and twice as many after."""
    with ExitStack() as stack:
        database = stack.enter_context(server.database())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chaos = Field(server, database, folder, random.Random(seed))
        PostgresStore(server.url(database)).close()
        stack.callback(lambda: [chaos.kill(name) for name in list(chaos.workers)])
        producer = chaos.start("producer")
        for _ in range(workers):
            chaos.start("worker")
        wait_for(lambda: len(chaos.ends()) > 5 * workers, "the first tasks")
        began = time.time()
        time.sleep(seconds)
        struck = time.time()
        CELLS[cell](chaos, seconds)
        calm = time.time()
        wait_for(
            lambda: recovery(chaos.ends(), began, struck) is not None or time.time() > calm + 6 * seconds, "recovery"
        )
        settled = time.time()
        time.sleep(max(2.0, 2 * seconds))
        stopped = time.time()
        chaos.kill(producer)
        accepted = [task for line in chaos.said("accepted") for task in line]
        store = PostgresStore(server.url(database), busy_seconds=60)
        stack.callback(store.close)
        # A batch may have gone in without its answer having been heard; those tasks must end, too.
        wait_for(lambda: not any(store.counts()[status] for status in Status if not status.is_end), "the end of all")
        found = {record.id: record for record in store.list(TaskQuery(limit=10**7))}
        good = {task for task, record in found.items() if record.status is Status.SUCCEEDED}
        moves = [event for event in store.events(limit=10**7) if event.kind is EventKind.STATUS]
        results = [event.task for event in moves if event.status is Status.SUCCEEDED]
        ends = chaos.ends()
        before, after = rate(ends, began, struck), rate(ends, max(calm + 2.0, settled), stopped)
        recovered = recovery(ends, began, struck)
        return {
            "cell": cell,
            "accepted": len(accepted),
            "succeeded": len(good),
            "jobs_lost": len(set(accepted) - good),
            "invented": max(0, len(found) - len(accepted) - BATCH),
            "doubled": len(results) - len(set(results)),
            "re_executed": sum(record.attempt > 1 for record in found.values()),
            "chaos_recovery_time_s": None if recovered is None else round(recovered, 2),
            "tasks_per_s_before": round(before, 1),
            "tasks_per_s_after": round(after, 1),
            "recovery_ratio": round(after / before, 2),
            "lease_s": LEASE,
            "workers": workers,
            "seed": seed,
        }


def rate(ends: list[float], start: float, stop: float) -> float:
    """Return how many tasks ended in a second of a time."""
    return sum(start <= when < stop for when in ends) / max(stop - start, 1e-9)


def recovery(ends: list[float], began: float, struck: float) -> float | None:
    """Return after how many seconds the rate was back for two seconds; None where it is not yet."""
    wanted = 0.8 * rate(ends, began, struck)
    newest = ends[-1]
    for tenths in itertools.count():
        start = struck + tenths / 10
        if start + 2.0 > newest:
            return None
        if rate(ends, start, start + 2.0) >= wanted:
            return tenths / 10
    raise AssertionError


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.05)


def be(role: str, name: str) -> None:
    """Be a process of a cell, until it is killed; it ends with the process that started it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    store = insist(lambda: PostgresStore(os.environ["CHAOS_STORE"]))
    {"producer": produce, "worker": work}[role](store, name)


def main() -> None:
    """Run cells and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=sorted(CELLS), help="by default all")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        be(options.role, options.name)
    failed = False
    for cell in [options.cell] if options.cell else CELLS:
        with postgres(*OPTIONS) as server:
            found = run(server, cell, options.seconds, options.workers, options.seed)
        print(json.dumps(found), flush=True)
        failed = failed or bool(found["jobs_lost"] or found["doubled"] or found["invented"])
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
