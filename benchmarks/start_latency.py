"""How long from the submission of a task until its commands start, on an actor that is warm?

    .venv/bin/python -m benchmarks.start_latency [--count 200] [--json]

A server is started for it. One task after the other is sent over HTTP, each once the one before has ended and a pause
has passed, so that nothing is waited for but the way itself. Given are milliseconds from the moment at which the
request is sent: until the answer has come, which it does when the task is on disk; until the dispatcher has given the
task to the actor; and until the actor has started the commands, by the times that the attempt has.

The peer is what Ray has for it: an application of Ray Serve that calls a warm actor, which starts the same process.
It stages no input, starts no supervisor, and has nothing on disk.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.bare_ray import bare_ray
from benchmarks.submission_rate import spec_over
from tests.running_server import RunningServer, running_server

Figures = dict[str, list[float]]

_PEER = """
import subprocess, time
from fastapi import Request

@ray.remote(num_cpus=1)
class Starter:
    def start(self):
        process = subprocess.Popen(["true"])
        at = time.time()
        process.wait()
        return at

app = FastAPI()

@serve.deployment
@serve.ingress(app)
class Api:
    def __init__(self):
        self.starter = Starter.remote()

    @app.post("/v1/tasks")
    async def run(self):
        return {"started_at": await self.starter.start.remote()}

serve.run(Api.bind(), route_prefix="/")
"""


def of_server(server: RunningServer, count: int) -> Figures:
    """Return the milliseconds of each task."""
    spec = spec_over(server.url, server.key) | {
        "commands": [{"argv": ["true"]}],
        "parameters": {},
        "runtime": "native",
        "resources": {"cpus": 1, "memory": "256MiB"},
    }
    found: Figures = {"answered": [], "given": [], "started": [], "ended": []}
    with server.http() as http:

        def one() -> dict[str, float]:
            sent, began = time.time(), time.perf_counter()
            answer = http.post("/v1/tasks", json=spec)
            answered = (time.perf_counter() - began) * 1000
            answer.raise_for_status()
            task = answer.json()["id"]
            while (told := http.get(f"/v1/tasks/{task}").json())["ended_at"] is None:
                time.sleep(0.02)
            if told["status"] != "succeeded":
                raise SystemExit(f"a task ended as {told['status']}: {told['reason']}")
            [attempt] = told["attempts"]
            since = {"given": attempt["created_at"], "started": attempt["started_at"], "ended": told["ended_at"]}
            return {"answered": answered} | {name: (_moment(at) - sent) * 1000 for name, at in since.items()}

        _repeat(one, count, found)
    return found


def of_peer(url: str, count: int) -> Figures:
    """Return the milliseconds of each call."""
    found: Figures = {"answered": [], "started": []}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:

        def one() -> dict[str, float]:
            sent, began = time.time(), time.perf_counter()
            told = http.post("/v1/tasks").raise_for_status().json()
            answered = (time.perf_counter() - began) * 1000
            return {"answered": answered, "started": (told["started_at"] - sent) * 1000}

        _repeat(one, count, found)
    return found


def _repeat(one: Callable[[], dict[str, float]], count: int, found: Figures) -> None:
    for number in range(count + 5):
        figures = one()
        # The first ones warm up and do not count.
        if number >= 5:
            for name, value in figures.items():
                found[name].append(value)
        time.sleep(random.uniform(0.05, 0.25))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def summary(found: Figures) -> dict[str, Any]:
    """Return the median and the 99th percentile of each."""
    return {
        name: {
            "p50_ms": round(statistics.median(values), 1),
            "p99_ms": round(statistics.quantiles(values, n=100)[98], 1),
        }
        for name, values in found.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = {}
    with bare_ray(_PEER) as (_, url):
        told["Ray Serve and an actor"] = summary(of_peer(url, options.count))
    with tempfile.TemporaryDirectory() as home, running_server(Path(home)) as server:
        told["Simyard"] = summary(of_server(server, options.count))
    if options.json:
        print(json.dumps({"benchmark": "start_latency", "count": options.count, **told}))
        return
    print(f"milliseconds since the request was sent, {options.count} tasks one after the other, p50 and p99")
    for system, figures in told.items():
        print(f"{system:24}" + "".join(f"  {n} {f['p50_ms']:6.1f} {f['p99_ms']:6.1f}" for n, f in figures.items()))


if __name__ == "__main__":
    main()
