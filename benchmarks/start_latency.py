"""How long from the submission of a task until its commands run, on an actor that is warm?

    .venv/bin/python -m benchmarks.start_latency [--count 200] [--folder DIR] [--json]

A server is started for it. One task after the other is sent over HTTP, each once the one before has ended and a pause
has passed, so that nothing is waited for but the way itself; nothing is asked of the server meanwhile. Given are
milliseconds from the moment at which the request is sent: until the answer has come, which it does when the task is on
disk; until the dispatcher has given the task to the actor, by the attempt's times; and until the command runs, by the
time that it prints: it is `date`. `--folder` is where the server's data are.

The peer is what Ray has for it: an application of Ray Serve that calls a warm actor, which starts the same process.
It stages no input, starts no supervisor, and has nothing on disk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bare_ray import bare_ray
from benchmarks.submission_rate import spec_over
from tests.running_server import RunningServer, running_server

Figures = dict[str, list[float]]

COMMAND = ["date", "+%s.%N"]
"""Prints the seconds since 1970, as `time.time()` counts them."""
UNDISTURBED = 0.1
"""Seconds in which nobody asks how far the task is."""

_PEER = f"""
import subprocess
from fastapi import Request

@ray.remote(num_cpus=1)
class Starter:
    def start(self):
        return subprocess.run({COMMAND}, capture_output=True, check=True).stdout

app = FastAPI()

@serve.deployment
@serve.ingress(app)
class Api:
    def __init__(self):
        self.starter = Starter.remote()

    @app.post("/v1/tasks")
    async def run(self):
        return {{"started_at": float(await self.starter.start.remote())}}

serve.run(Api.bind(), route_prefix="/")
"""


class Client:
    """One connection, by a client that costs a tenth of a millisecond for each request."""

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return what a request is answered with; an error ends the program."""
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        told = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise SystemExit(f"{method} {path} was answered with {answer.status}: {told[:500]!r}")
        return told

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def of_server(server: RunningServer, count: int) -> Figures:
    """Return the milliseconds of each task."""
    spec = spec_over(server.url, server.key) | {
        "commands": [{"argv": COMMAND}],
        "parameters": {},
        "runtime": "native",
        "resources": {"cpus": 1, "memory": "256MiB"},
    }
    body = json.dumps(spec).encode()
    found: Figures = {"answered": [], "given": [], "started": [], "ended": []}
    with closing(Client(server.url, server.key)) as client:

        def one() -> dict[str, float]:
            sent, began = time.time(), time.perf_counter()
            answer = client.ask("POST", "/v1/tasks", body)
            answered = (time.perf_counter() - began) * 1000
            task = json.loads(answer)["id"]
            time.sleep(UNDISTURBED)
            while (told := json.loads(client.ask("GET", f"/v1/tasks/{task}")))["ended_at"] is None:
                time.sleep(0.02)
            if told["status"] != "succeeded":
                raise SystemExit(f"a task ended as {told['status']}: {told['reason']}")
            since = {
                "given": _moment(told["attempts"][0]["created_at"]),
                "started": float(client.ask("GET", f"/v1/tasks/{task}/logs")),
                "ended": _moment(told["ended_at"]),
            }
            return {"answered": answered} | {name: (at - sent) * 1000 for name, at in since.items()}

        _repeat(one, count, found)
    return found


def of_peer(url: str, count: int) -> Figures:
    """Return the milliseconds of each call."""
    found: Figures = {"answered": [], "started": []}
    with closing(Client(url)) as client:

        def one() -> dict[str, float]:
            sent, began = time.time(), time.perf_counter()
            answer = client.ask("POST", "/v1/tasks")
            answered = (time.perf_counter() - began) * 1000
            time.sleep(UNDISTURBED)
            return {"answered": answered, "started": (json.loads(answer)["started_at"] - sent) * 1000}

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
    parser.add_argument("--folder", type=Path, help="where the server's data are")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = {}
    with bare_ray(_PEER) as (_, url):
        told["Ray Serve and an actor"] = summary(of_peer(url, options.count))
    with tempfile.TemporaryDirectory(dir=options.folder) as home, running_server(Path(home)) as server:
        told["Simyard"] = summary(of_server(server, options.count))
    if options.json:
        print(json.dumps({"benchmark": "start_latency", "count": options.count, **told}))
        return
    print(f"milliseconds since the request was sent, {options.count} tasks one after the other, p50 and p99")
    for system, figures in told.items():
        print(f"{system:24}" + "".join(f"  {n} {f['p50_ms']:6.1f} {f['p99_ms']:6.1f}" for n, f in figures.items()))


if __name__ == "__main__":
    main()
