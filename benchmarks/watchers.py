"""What do 10,000 watchers of one sweep cost, and one who waits for 10,000 tasks?

    .venv/bin/python -m benchmarks.watchers [--watchers 1000] [--only NAME ...] [--json]

Many event streams of one sweep are opened, each once, and stay open while nothing happens and then while tasks change
at a rate. Given are the requests a second that the server is sent meanwhile, the cores that it uses in both phases, the
memory that a watcher costs it, and the seconds from a change's commit until the median and the last watcher have it
(medians over the changes; `worst` is the last watcher of the slowest). `around_serve` is the application under uvicorn,
`whole_server` what `simyard up` starts, with all of its processes. The floor, `streams_alone`, is FastAPI under uvicorn
that sends as many bytes to as many streams when it is told to; it has nothing to look at and nobody to tell that it
lives. The client is a process of its own on the same cores.

`one_wait` is the other reading: one client process that waits for a sweep of 10,000 tasks, which end as fast as the
store takes it, with `wait()` and with `as_completed()`.
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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.bare import cpu_ms, requests_of, served
from benchmarks.streams import Watching, allow_files, watching
from benchmarks.submission_rate import spec_over
from tasks.record import TaskQuery
from tasks.sqlite.store import SqliteStore
from tasks.stimulus import Cancel
from tests.running_server import RunningServer, running_server

PROBES = 10
WITHIN = 120.0
"""Seconds within which all streams must have begun, and within which they must have everything."""
_COUNTED = {"opening_requests", "requests_per_second"}
Figures = dict[str, Any]
Processes = Callable[[], list[psutil.Process]]

_CLIENT = """
import resource, sys
from simyard import Client

with Client(url=sys.argv[1], key=sys.argv[2]) as client:
    sweep = client.sweeps.get(sys.argv[3])
    print("ready", flush=True)
    if sys.argv[4] == "wait":
        assert sweep.wait(timeout=300).is_over
    else:
        assert sum(1 for _ in sweep.as_completed(timeout=300)) == len(sweep)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""


def sweep_of(url: str, key: str, cases: int) -> str:
    """Submit a sweep of a project of its own and return its id."""
    spec = spec_over(url, key) | {"name": "case {{ n }}", "project": "watched"}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as http:
        http.post("/v1/projects/watched:pause").raise_for_status()
        answer = http.post("/v1/sweeps", json={"task": spec, "grid": {"n": list(range(cases))}})
    if answer.status_code != 201:
        raise SystemExit(f"no sweep was made: {answer.status_code} {answer.text[:500]}")
    made: str = answer.json()["id"]
    return made


def tasks_of(store: SqliteStore, sweep: str) -> list[str]:
    """Return the ids of a sweep's tasks."""
    return [record.id for record in store.list(TaskQuery(sweep=sweep, limit=100_000))]


def end_at(rate: float, store: SqliteStore, tasks: list[str]) -> dict[int, float]:
    """End a task now and then, and return at what moment each event was on disk."""
    commits, start = {}, time.monotonic()
    for count, task in enumerate(tasks):
        time.sleep(max(0.0, start + count / rate - time.monotonic()))
        store.apply(task, Cancel(), datetime.now(UTC))
        at = time.monotonic()
        commits[store.events(task=task)[-1].seq] = at
    return commits


def memory_of(processes: Processes) -> int:
    """Return the bytes that processes have in memory."""
    return sum(process.memory_info().rss for process in processes())


def watch(
    place: str,
    key: str,
    watchers: int,
    processes: Processes,
    change: Callable[[], dict[int, float]],
    options: argparse.Namespace,
    requests: Callable[[], int] = int,
) -> Figures:
    """Open the streams and measure both phases; `change` makes the news and returns its moments."""
    had, asked = memory_of(processes), requests()
    with watching(place, key, watchers, WITHIN) as streams:
        opened = requests() - asked
        held = memory_of(processes) - had
        asked, began, used = requests(), time.monotonic(), cpu_ms(processes())
        time.sleep(options.idle)
        idle = (cpu_ms(processes()) - used) / 1000 / (time.monotonic() - began)
        news = _news(streams, processes, change, watchers, idle)
        asked, seconds = requests() - asked, time.monotonic() - began
        probes = sorted(_probe(place) for _ in range(PROBES))
    return {
        "watchers": watchers,
        "opening_requests": opened,
        "opening_seconds": round(streams.opened["seconds"], 2),
        "requests_per_second": round(asked / seconds, 2),
        "kib_per_watcher": round(held / 1024 / watchers, 1),
        "cores_idle": round(idle, 3),
        **news,
        "other_request_ms": round(statistics.median(probes) * 1000, 1),
    }


def _news(
    streams: Watching, processes: Processes, change: Callable[[], dict[int, float]], watchers: int, idle: float
) -> dict[str, float]:
    used, began = cpu_ms(processes()), time.monotonic()
    commits = change()
    found = streams.tell(commits)
    used, seconds = cpu_ms(processes()) - used, time.monotonic() - began
    return {
        "changes_per_second": round(len(commits) / seconds, 2),
        "cores_with_news": round(used / 1000 / seconds, 3),
        "cpu_us_per_watcher_and_change": round((used / 1000 - idle * seconds) / len(commits) / watchers * 1e6, 1),
        "client_cores": round(found["client_cpu_seconds"] / seconds, 3),
        "bytes_per_watcher": round(found["bytes_per_watcher"]),
    } | {
        f"{name}_ms": round(found[name] * 1000, 1)
        for name in ("median_watcher", "p99_watcher", "last_watcher", "worst")
    }


def _probe(place: str) -> float:
    url = httpx.URL(place).copy_with(raw_path=b"/v1/health")
    began = time.monotonic()
    httpx.get(url, trust_env=False, timeout=60).raise_for_status()
    return time.monotonic() - began


@contextmanager
def watched(url: str, key: str, database: Path, cases: int) -> Iterator[tuple[str, SqliteStore, list[str]]]:
    """Give a sweep, the store that it is in, and its tasks."""
    sweep = sweep_of(url, key, cases)
    with closing(SqliteStore(database)) as store:
        yield sweep, store, tasks_of(store, sweep)


def changes_of(options: argparse.Namespace) -> int:
    """Return how many tasks change."""
    return max(1, round(options.rate * options.seconds))


def around_serve(home: Path, options: argparse.Namespace) -> Figures:
    """Measure our application under uvicorn."""
    with served("app", home) as (url, process):
        key, count = (home / "key").read_text(), changes_of(options)
        with watched(url, key, home / "simyard.db", count + 1) as (sweep, store, tasks):
            place = f"{url}/v1/sweeps/{sweep}/events"

            def change() -> dict[int, float]:
                return end_at(options.rate, store, tasks[:count])

            return watch(place, key, options.watchers, lambda: [process], change, options, lambda: requests_of(url))


def streams_alone(home: Path, options: argparse.Namespace) -> Figures:
    """Measure streams with nothing behind them: for each change one piece, as long as an event and the progress."""
    with served("streams", home) as (url, process), httpx.Client(trust_env=False, timeout=60) as http:
        size = options.bytes_per_change

        def change() -> dict[int, float]:
            commits, start = {}, time.monotonic()
            for number in range(1, changes_of(options) + 1):
                time.sleep(max(0.0, start + (number - 1) / options.rate - time.monotonic()))
                commits[number] = time.monotonic()
                http.post(f"{url}/v1/news", content=f"id: {number}\ndata: ".ljust(size - 2, "x") + "\n\n")
            return commits

        found = watch(f"{url}/v1/events", "sy_none", options.watchers, lambda: [process], change, options)
    return {name: value for name, value in found.items() if name not in _COUNTED}


def whole_server(home: Path, options: argparse.Namespace) -> Figures:
    """Measure a whole server as `simyard up` starts it; what its requests are, only it knows."""
    home.mkdir(parents=True)
    with running_server(home) as server:
        count = changes_of(options)
        with watched(server.url, server.key, database_of(server), count + 1) as (sweep, store, tasks):
            place = f"{server.url}/v1/sweeps/{sweep}/events"

            def change() -> dict[int, float]:
                return end_at(options.rate, store, tasks[:count])

            found = watch(place, server.key, options.watchers, server.processes, change, options)
    return {name: value for name, value in found.items() if name not in _COUNTED}


def database_of(server: RunningServer) -> Path:
    """Return the file with a server's tasks."""
    [path] = server.data_dir.rglob("simyard.db")
    return path


def one_wait(home: Path, options: argparse.Namespace) -> Figures:
    """Measure one client that waits for a sweep, and one that is given its tasks as they end."""
    with served("app", home) as (url, process):
        key = (home / "key").read_text()
        found: Figures = {"tasks": options.tasks}
        for how in ("wait", "as_completed"):
            with watched(url, key, home / "simyard.db", options.tasks) as (sweep, store, tasks):
                found[how] = _waited(how, url, key, sweep, process, lambda s=store, t=tasks: end_at(1e9, s, t))
        return found


def _waited(
    how: str, url: str, key: str, sweep: str, server: psutil.Process, change: Callable[[], object]
) -> dict[str, float]:
    asked = requests_of(url)
    command = [sys.executable, "-c", _CLIENT, url, key, sweep, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            client.stdout.readline()
            used, began = cpu_ms([server]), time.monotonic()
            change()
            changed = time.monotonic()
            told = client.communicate(timeout=WITHIN * 3)[0]
        finally:
            client.kill()
    if client.returncode:
        raise SystemExit("the client failed")
    seconds = time.monotonic() - began
    requests = requests_of(url) - asked
    return {
        "seconds": round(seconds, 2),
        "seconds_after_the_last_end": round(time.monotonic() - changed, 2),
        "requests": requests,
        "requests_per_second": round(requests / seconds, 2),
        "server_cores": round((cpu_ms([server]) - used) / 1000 / seconds, 3),
        "client_cpu_seconds": round(float(told), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1.0, help="changes a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of changes")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds in which nothing happens")
    parser.add_argument("--tasks", type=int, default=10_000, help="of the sweep for which one waits")
    parser.add_argument("--only", nargs="*", help="names of the figures to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON line and nothing before it")
    options = parser.parse_args()
    allow_files(options.watchers)
    options.bytes_per_change = BYTES_PER_CHANGE
    # Ray's sockets lie below this folder, and a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sy") as folder:
        home = Path(folder)
        todo: dict[str, Callable[[], Figures]] = {
            "around_serve": lambda: around_serve(home / "app", options),
            "streams_alone": lambda: streams_alone(home / "alone", options),
            "whole_server": lambda: whole_server(home / "server", options),
            "one_wait": lambda: one_wait(home / "wait", options),
        }
        found: dict[str, Figures] = {}
        for name, act in todo.items():
            if options.only and name not in options.only:
                continue
            found[name] = act()
            if name == "around_serve":
                options.bytes_per_change = found[name]["bytes_per_watcher"] // changes_of(options)
            if not options.json:
                print(name, json.dumps(found[name]), flush=True)
    if options.json:
        print(json.dumps({"benchmark": "watchers", "cores": os.cpu_count(), "load": os.getloadavg()[0], **found}))


BYTES_PER_CHANGE = 700
"""Of the floor where the application was not measured before it."""

if __name__ == "__main__":
    main()
