"""How many tasks a second are accepted and durable in batches of 10,000, and does a long queue cost more?

    .venv/bin/python -m benchmarks.batch_rate [--runs 5] [--queued 1000000] [--only NAME ...]

`around_serve` sends the batches to the application under uvicorn, `whole_server` to a whole server, both gzipped, as
the Python client sends them, by one client and by two at once; `tasks_per_second` is over all batches of a run, from
the first byte of the request to the last of the answer. The floor is SQLite itself: finished rows into our own tables
with their indexes, 10,000 a transaction, one fsync each. `steps` is what a request costs in one process, with no
HTTP: reading it, its checks, the store, and the answer. `queue` fills a store and asks at both lengths what the
dispatcher asks in a turn: the next tasks (`queue`) and their dispatch (`apply`), and what a batch costs the store;
`ratio` is CPU for each task at the large length to that at the small.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.bare import cpu_ms, served
from benchmarks.submission_rate import spec_over
from serve import batches
from serve.admission import Wanted, admit
from serve.collector import calm
from simyard.files import InputFile
from simyard.simulator import Command, RuntimeName
from simyard.task import TaskSpec
from simyard.words import new_task_id
from storage.inputs import put_input
from storage.memory import MemoryStore
from tasks.lifecycle import new_record
from tasks.record import Draft
from tasks.rows import task_columns
from tasks.sqlite.statements import columns_of, of_many, statements
from tasks.sqlite.store import SqliteStore
from tasks.stimulus import Dispatch, Undelivered
from tests.running_server import running_server, until

SIZE = 10_000
BATCHES = 4
SMALL = 1000
TURN = 100
Figures = dict[str, Any]


def body_of(spec: Callable[[int], dict[str, Any]], mark: str) -> bytes:
    """Return a gzipped batch of JSON lines, each task with metadata and a key of its own."""
    lines = (
        json.dumps({"spec": spec(i) | {"metadata": {"case": i}}, "idempotency_key": f"{mark}-{i}"}) for i in range(SIZE)
    )
    return gzip.compress("\n".join(lines).encode(), 1)


def measure(
    url: str, key: str, spec: dict[str, Any], processes: Callable[[], list[psutil.Process]], options: argparse.Namespace
) -> Figures:
    """Return the medians of the runs against one server."""
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/x-ndjson",
        "Content-Encoding": "gzip",
        "Accept": "application/x-ndjson",
    }
    found: Figures = {}
    with httpx.Client(trust_env=False, timeout=300, headers=headers) as http:
        for clients, name in ((1, "one_client"), (2, "two_clients")):
            rates, costs = [], []
            for run in range(options.runs + 1):
                bodies = [body_of(lambda _: spec, f"{run}-{i}-{time.time_ns()}") for i in range(BATCHES)]
                with ThreadPoolExecutor(clients) as threads:
                    before, start = cpu_ms(processes()), time.perf_counter()
                    answers = list(threads.map(lambda body: http.post(f"{url}/v1/tasks:batch", content=body), bodies))
                    seconds, used = time.perf_counter() - start, cpu_ms(processes()) - before
                created = sum(answer.content.count(b'"created":true') for answer in answers)
                if created != SIZE * BATCHES:
                    raise SystemExit(f"not all were accepted: {answers[0].status_code} {answers[0].text[:500]}")
                # The first run warms up and does not count.
                if run:
                    rates.append(created / seconds)
                    costs.append(used / created)
            found[name] = {
                "tasks_per_second": round(statistics.median(rates)),
                "cpu_ms_per_task": round(statistics.median(costs), 4),
            }
    return found | {"largest_process_mib": round(max(process.memory_info().rss for process in processes()) / 2**20)}


def around_serve(home: Path, options: argparse.Namespace) -> Figures:
    """Measure our application under uvicorn."""
    with served("app", home) as (url, process):
        key = (home / "key").read_text()
        return measure(url, key, spec_over(url, key), lambda: [process], options)


def whole_server(home: Path, options: argparse.Namespace) -> Figures:
    """Measure a whole server as `simyard up` starts it; one task holds the machine, so that nothing else runs."""
    home.mkdir(parents=True, exist_ok=True)
    with running_server(home) as server:
        spec = spec_over(server.url, server.key)
        [busy] = server.submit(["sleep", "900"], resources=spec["resources"])
        until(lambda: server.task(busy)["status"] == "running", 120)
        return measure(server.url, server.key, spec, server.processes, options)


def sqlite_floor(home: Path, options: argparse.Namespace) -> Figures:
    """Return how many finished rows a second SQLite takes durably into our tables, in transactions of the same size."""
    store, now, seq, rates = SqliteStore(home / "floor.db"), datetime.now(UTC), 1, []
    sql, columns = statements(), columns_of("add_task")
    statement = of_many("add_task", 1000, columns)
    store.submit(drafts(1), now)
    with closing(sqlite3.connect(home / "floor.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        inputs = connection.execute("SELECT sha256 FROM input_lists").fetchone()[0]
        for _ in range(options.runs):
            made = [
                task_columns(new_record(draft, seq + i, now).record, draft, inputs)
                for i, draft in enumerate(drafts(SIZE), 1)
            ]
            seq += SIZE
            start = time.perf_counter()
            connection.execute("BEGIN")
            for first in range(0, SIZE, 1000):
                connection.execute(statement, [row[name] for row in made[first : first + 1000] for name in columns])
            connection.execute(sql["add_submitted"], {"first": made[0]["seq"], "at": 0})
            connection.execute("COMMIT")
            rates.append(SIZE / (time.perf_counter() - start))
    store.close()
    return {"rows_per_second": round(statistics.median(rates))}


def steps(home: Path, options: argparse.Namespace) -> Figures:
    """Return what the steps of a request cost in this process, in microseconds of CPU for each task.

    The tasks differ in their metadata alone, in a file too, or in a command, which makes each one of a kind of its own.
    """
    storage, store = MemoryStore("steps"), SqliteStore(home / "steps.db")
    file = {"path": "town.inp", "sha256": put_input(storage, b"town"), "size": 4}
    spec = {"simulator": "swmm", "inputs": [file], "commands": [{"argv": ["runswmm", "town.inp", "town.rpt"]}]}
    for i in range(SIZE):
        put_input(storage, b"%4d" % i)

    def alike(_: int) -> dict[str, Any]:
        return spec

    def other_file(i: int) -> dict[str, Any]:
        return spec | {"inputs": [file | {"sha256": hashlib.sha256(b"%4d" % i).hexdigest()}]}

    def other_command(i: int) -> dict[str, Any]:
        return spec | {"commands": [{"argv": ["runswmm", "town.inp", f"{i}.rpt"]}]}

    calm()
    figures = {}
    for form in (alike, other_file, other_command):
        runs = [_step_costs(body_of(form, f"{form.__name__}{run}"), storage, store) for run in range(options.runs + 1)]
        figures[form.__name__] = {name: round(statistics.median(one[name] for one in runs[1:]), 1) for name in runs[0]}
    store.close()
    return figures


def _step_costs(gzipped: bytes, storage: MemoryStore, store: SqliteStore) -> Figures:
    body, clock = gzip.decompress(gzipped), [time.process_time()]
    items, _ = batches._parse_lines(body)
    clock.append(time.process_time())
    wanted = [one for one in items if isinstance(one, Wanted)]
    admitted = [one for one in admit(wanted, "ada", None, storage, store) if isinstance(one, Draft)]
    clock.append(time.process_time())
    submitted = store.submit(admitted, datetime.now(UTC))
    clock.append(time.process_time())
    batches._response(submitted, as_lines=True)
    clock.append(time.process_time())
    if sum(one.created for one in submitted) != SIZE:
        raise SystemExit("not all were accepted")
    costs = [(after - before) / SIZE * 1e6 for before, after in pairwise(clock)]
    return dict(zip(("parse_us", "admit_us", "submit_us", "answer_us"), costs, strict=True))


def drafts(count: int) -> list[Draft]:
    """Return tasks that differ in their metadata."""
    inputs = (InputFile(path="town.inp", sha256="0" * 64, size=4),)
    command = Command(argv=("runswmm", "town.inp"))
    made = []
    for i in range(count):
        task = new_task_id()
        spec = TaskSpec(
            simulator="swmm",
            version="5.2.4",
            runtime=RuntimeName.NATIVE,
            inputs=inputs,
            commands=(command,),
            metadata={"case": i},
        )
        made.append(Draft(id=task, spec=spec, user="ada", key=str(task), digest="0" * 64))
    return made


def turn(store: SqliteStore) -> Figures:
    """Return what a turn of the dispatcher and a batch cost the store, in microseconds of CPU for each task."""
    now = datetime.now(UTC) + timedelta(hours=1)
    start = time.process_time()
    for _ in range(5):
        found = store.queue(now, SMALL)
    asked = (time.process_time() - start) / 5 / len(found)
    start = time.process_time()
    for record in found[:TURN]:
        store.apply(record.id, Dispatch(machine="m", holder="h", runtime=RuntimeName.NATIVE, lease_until=now), now)
    given = (time.process_time() - start) / TURN
    for record in found[:TURN]:
        store.apply(record.id, Undelivered(store.get(record.id).attempt), now)
    return {"queue_us": asked * 1e6, "dispatch_us": given * 1e6}


def grow(path: Path, count: int) -> None:
    """Copy queued tasks until there are `count`; submitting a million of them would take the benchmark's whole time."""
    statements = Path(__file__).with_name("grow_queue.sql").read_text().split(";\n\n")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while (last := connection.execute("SELECT max(seq) FROM tasks").fetchone()[0]) < count:
            values = {"last": last, "count": min(last, count - last, 100_000)}
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def submit_us(store: SqliteStore) -> float:
    """Return what one batch of 10,000 costs the store, in microseconds of CPU for each task."""
    batch = drafts(SIZE)
    start = time.process_time()
    store.submit(batch, datetime.now(UTC))
    return (time.process_time() - start) / SIZE * 1e6


def queue(home: Path, options: argparse.Namespace) -> Figures:
    """Measure a short queue and a long one in turns, so that whatever else the machine does meets both."""
    stores: dict[str, SqliteStore] = {}
    runs: dict[str, list[Figures]] = {"small": [], "large": []}
    for name in runs:
        stores[name] = SqliteStore(home / f"{name}.db")
        stores[name].submit(drafts(SMALL), datetime.now(UTC))
    grow(home / "large.db", options.queued)
    for _ in range(options.runs + 1):
        for name, store in stores.items():
            runs[name].append(turn(store))
    found = {
        name: {figure: statistics.median(run[figure] for run in several[1:]) for figure in several[0]}
        for name, several in runs.items()
    }
    # Afterwards, since it makes the short queue a long one.
    costs = {name: [submit_us(store) for store in [stores[name]] * options.runs] for name in stores}
    for name, store in stores.items():
        found[name]["submit_us"] = statistics.median(costs[name])
        store.close()
    small, large = found["small"], found["large"]
    return {
        "queued": options.queued,
        "small": {name: round(value, 1) for name, value in small.items()},
        "large": {name: round(value, 1) for name, value in large.items()},
        "ratio": {name: round(large[name] / small[name], 3) for name in small},
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "database_mib": round(sum(file.stat().st_size for file in home.glob("large.db*")) / 2**20),
    }


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", help="names of the figures to measure")
    options = parser.parse_args()
    calm()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        todo: dict[str, Callable[[], Figures]] = {
            "queue": lambda: queue(home, options),
            "sqlite_floor": lambda: sqlite_floor(home, options),
            "steps": lambda: steps(home, options),
            "around_serve": lambda: around_serve(home / "app", options),
            "whole_server": lambda: whole_server(home / "server", options),
        }
        found: dict[str, Figures] = {}
        for name, act in todo.items():
            if not options.only or name in options.only:
                found[name] = act()
                print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "batch_rate", "cores": os.cpu_count(), "load": os.getloadavg()[0], **found}))


if __name__ == "__main__":
    main()
