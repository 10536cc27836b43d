"""How many submissions and whole task lives a second do the stores take, beside what the disk and the database can do?

    .venv/bin/python -m benchmarks.store_rate [--seconds 3] [--rounds 5] [--threads 8]

In each round, one after the other: fsync of 4 KiB appended to a file; INSERT and commit of one row of a task's size,
into a bare SQLite file and a bare PostgreSQL table; with the stores, submissions of one task, and lives of five calls
(submit, dispatch, running, finalizing, succeeded). Everything is on disk when a call returns. Given are the medians of
the rounds, alone and with several threads, each with CPU milliseconds of this process and, for PostgreSQL, of its
server. Batches are of 1,000 tasks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg

from simulators.outcome import Outcome
from simyard.files import InputFile
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import TaskSpec
from simyard.words import new_task_id
from tasks.lifecycle import Dispatch, End, Progress
from tasks.record import Draft
from tasks.store import Store, open_store
from tests.services.postgres import PostgresServer, postgres

BODY = "x" * 1200
"""As long as a task's row."""
BATCH = 1000
_OUTCOME = Outcome(status=Status.SUCCEEDED, exit_code=0, stored=True)
Act = Callable[[], None]


def draft() -> Draft:
    """Return a task to submit."""
    spec = TaskSpec(
        simulator="swmm",
        version="5.2.4",
        runtime=RuntimeName.NATIVE,
        inputs=(InputFile(path="model.inp", sha256="0" * 64, size=1),),
        commands=(Command(argv=("true",)),),
    )
    return Draft(id=new_task_id(), spec=spec, user="ada", key=new_task_id(), digest="d")


def submit(store: Store) -> Act:
    """Return an act that submits a task."""

    def act() -> None:
        store.submit([draft()], datetime.now(UTC))

    return act


def batch(store: Store) -> Act:
    """Return an act that submits a batch."""

    def act() -> None:
        store.submit([draft() for _ in range(BATCH)], datetime.now(UTC))

    return act


def live(store: Store) -> Act:
    """Return an act that carries a task from its submission to its end."""

    def act() -> None:
        now = datetime.now(UTC)
        want = draft()
        store.submit([want], now)
        store.apply(want.id, Dispatch("m", "h", RuntimeName.NATIVE, now + timedelta(seconds=30)), now)
        store.apply(want.id, Progress(1, Status.RUNNING), now)
        store.apply(want.id, Progress(1, Status.FINALIZING), now)
        store.apply(want.id, End(1, _OUTCOME), now)

    return act


@contextmanager
def fsync(folder: Path) -> Iterator[Act]:
    """Give an act that appends to a file and waits for the disk."""
    file = os.open(folder / "fsync", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def act() -> None:
        os.write(file, b"x" * 4096)
        os.fsync(file)

    try:
        yield act
    finally:
        os.close(file)


@contextmanager
def sqlite_insert(folder: Path) -> Iterator[Act]:
    """Give an act that puts a row into a bare SQLite file."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, body TEXT)")

        def act() -> None:
            connection.execute("INSERT INTO bare (body) VALUES (?)", (BODY,))

        yield act


@contextmanager
def postgres_insert(url: str) -> Iterator[Act]:
    """Give an act that puts a row into a bare PostgreSQL table."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bare (id BIGSERIAL PRIMARY KEY, body TEXT)")

        def act() -> None:
            connection.execute("INSERT INTO bare (body) VALUES (%s)", (BODY,))

        yield act


def cpu(server: PostgresServer) -> tuple[float, float]:
    """Return the CPU seconds that this process and the database server have used."""
    own, theirs = os.times(), 0.0
    process = psutil.Process(server.process.pid if server.process else None)
    for one in [process, *process.children(recursive=True)]:
        times = one.cpu_times()
        theirs += times.user + times.system
    return own.user + own.system, theirs


def measure(act: Act, seconds: float, threads: int, server: PostgresServer) -> dict[str, float]:
    """Return the rate of an act, and the CPU milliseconds of each, of this process and of the database server."""

    def repeat(until: float) -> int:
        for count in itertools.count(1):
            act()
            if time.monotonic() > until:
                return count
        raise AssertionError

    before, start = cpu(server), time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(repeat, [start + seconds] * threads))
    took, after = time.monotonic() - start, cpu(server)
    own, theirs = (1000 * (b - a) / done for a, b in zip(before, after, strict=True))
    return {"per_s": done / took, "cpu_ms": own, "server_cpu_ms": theirs}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres())
        url = server.url(stack.enter_context(server.database()))
        stores = {
            "sqlite": stack.enter_context(closing(open_store(folder / "simyard.db"))),
            "postgresql": stack.enter_context(closing(open_store(url))),
        }
        acts: list[tuple[str, Act, int]] = [
            ("fsync", stack.enter_context(fsync(folder)), 1),
            ("sqlite, bare insert", stack.enter_context(sqlite_insert(folder)), 1),
            ("postgresql, bare insert", stack.enter_context(postgres_insert(url)), 1),
        ]
        for name, store in stores.items():
            for threads in (1, options.threads):
                acts += [(f"{name}, submissions", submit(store), threads), (f"{name}, lives", live(store), threads)]
            acts.append((f"{name}, batches of {BATCH}", batch(store), 1))
        for _ in range(options.rounds):
            for name, act, threads in acts:
                figures = measure(act, options.seconds, threads, server)
                found.setdefault(f"{name}, {threads} thread{'s' * (threads > 1)}", []).append(figures)
    for name, rounds in found.items():
        medians = {key: round(statistics.median(one[key] for one in rounds), 3) for key in rounds[0]}
        rates = [one["per_s"] for one in rounds]
        print(json.dumps({"what": name, **medians, "lowest": round(min(rates), 1), "highest": round(max(rates), 1)}))


if __name__ == "__main__":
    main()
