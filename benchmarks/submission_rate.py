"""How many single submissions a second are accepted and durable?

    .venv/bin/python -m benchmarks.submission_rate [--runs 5] [--count 2000] [--clients 16] [--only NAME ...]

Each server is started for it and gets the same requests from the same client, which is a process of its own. Nothing
runs meanwhile: one task holds the whole machine. `whole_server` is what `simyard up` starts, `around_serve` the same
application under uvicorn. Beside them stand the floors: FastAPI alone under uvicorn, which answers with the body that
it gets, the same behind the proxy of Ray Serve, and what SQLite commits a second on the same disk, one row and one
fsync at a time.

Given are medians of the runs; `server_cpu_ms` and `client_cpu_ms` are CPU milliseconds for each submission of all
processes of the server, and of the client.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.bare import cpu_ms, served
from benchmarks.bare_ray import bare_ray
from benchmarks.load import load
from cluster.head import server_processes
from tests.running_server import running_server, until

INPUT = b"[TITLE]\na town\n"
Figures = dict[str, Any]


def spec_over(url: str, key: str) -> dict[str, Any]:
    """Return a task over a file that is uploaded here."""
    answer = httpx.post(
        f"{url}/v1/inputs", content=INPUT, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
    )
    return {
        "simulator": "swmm",
        "parameters": {"input_file": "town.inp"},
        "inputs": [{"path": "town.inp", **answer.json()}],
        "resources": {"cpus": min(2, os.cpu_count() or 1), "memory": "256MiB"},
        "name": "ten-year storm",
        "metadata": {"return_period": 10},
    }


def measure(
    url: str, key: str, spec: dict[str, Any], processes: Callable[[], list[psutil.Process]], options: argparse.Namespace
) -> Figures:
    """Return the medians of the runs against one server."""
    runs: list[Figures] = []
    for number in range(options.runs + 1):
        before = cpu_ms(processes())
        found = load(
            url=f"{url}/v1/tasks",
            key=key,
            body=json.dumps(spec),
            mark=f"r{number}-{time.time_ns()}",
            # The first run warms up and does not count.
            count=options.count if number else options.count // 4,
            connections=options.clients,
        )
        found["server_cpu_ms"] = (cpu_ms(processes()) - before) / (options.count if number else options.count // 4)
        if set(found["statuses"]) != {"201"}:
            raise SystemExit(f"not all were accepted: {found['statuses']}")
        if number:
            runs.append(found)
    names = ("per_second", "p50_ms", "p99_ms", "server_cpu_ms", "client_cpu_ms")
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in names}


def fsync_rate(folder: Path, options: argparse.Namespace) -> Figures:
    """Return how often SQLite commits one row durably, from one thread."""
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)")
    rates = []
    for _ in range(options.runs):
        start = time.perf_counter()
        for _ in range(options.count):
            connection.execute("INSERT INTO rows (body) VALUES (?)", ("x" * 600,))
        rates.append(options.count / (time.perf_counter() - start))
    connection.close()
    return {"per_second": round(statistics.median(rates), 1)}


def fastapi_alone(home: Path, options: argparse.Namespace) -> Figures:
    """Measure uvicorn and FastAPI with nothing behind them."""
    with served("fastapi", home) as (url, process):
        return measure_echo(url, lambda: [process], options)


def measure_echo(url: str, processes: Callable[[], list[psutil.Process]], options: argparse.Namespace) -> Figures:
    """Measure what answers with the body that it gets."""
    body = {"simulator": "swmm", "metadata": {"filler": "x" * 250}}
    return measure(url, "sy_none", body, processes, options)


def around_serve(home: Path, options: argparse.Namespace) -> Figures:
    """Measure our application under uvicorn."""
    with served("app", home) as (url, process):
        key = (home / "key").read_text()
        return measure(url, key, spec_over(url, key), lambda: [process], options)


def whole_server(home: Path, options: argparse.Namespace) -> Figures:
    """Measure a whole server as `simyard up` starts it."""
    home.mkdir(parents=True, exist_ok=True)
    with running_server(home) as server:
        spec = spec_over(server.url, server.key)
        [busy] = server.submit(["sleep", "900"], resources=spec["resources"])
        until(lambda: server.task(busy)["status"] == "running", 120)
        return measure(server.url, server.key, spec, server.processes, options)


_ECHO = """
from fastapi import Request, Response
app = FastAPI()

@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(app)
class Api:
    @app.post("/v1/tasks")
    async def echo(self, request: Request):
        return Response(await request.body(), 201)

serve.run(Api.bind(), route_prefix="/")
"""


def serve_proxy(options: argparse.Namespace) -> Figures:
    """Measure FastAPI with nothing behind it in Ray Serve, which brings the requests to it by its Python proxy."""
    with bare_ray(_ECHO) as (name, url):
        return measure_echo(url, lambda: server_processes(name), options)


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--only", nargs="*", help="names of the figures to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        todo: dict[str, Callable[[], Figures]] = {
            "sqlite_fsync": lambda: fsync_rate(home, options),
            "fastapi_alone": lambda: fastapi_alone(home / "fastapi", options),
            "around_serve": lambda: around_serve(home / "app", options),
            "serve_proxy": lambda: serve_proxy(options),
            "whole_server": lambda: whole_server(home / "server", options),
        }
        found: dict[str, Figures] = {}
        for name, act in todo.items():
            if not options.only or name in options.only:
                found[name] = act()
                print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "submission_rate", "cores": os.cpu_count(), "load": os.getloadavg()[0], **found}))


if __name__ == "__main__":
    main()
