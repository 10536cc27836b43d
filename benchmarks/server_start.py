"""How long until a server takes tasks, and how long until it has stopped?

    .venv/bin/python -m benchmarks.server_start [--rounds 5] [--json]

Seconds from `simyard up --detach` to its return, which is when `/v1/ready` has said yes, and from `simyard down` to
its return, with warm file caches. Beside them the peer, in turns with ours: `ray start --head`, then a program that
puts a Serve application of one route onto it, until that answers; then the end of both by SIGKILL. CPU seconds are
those of the whole machine, so let nothing else run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from benchmarks.bare_ray import start_bare_ray, stop_bare_ray
from tests.running_server import RunningServer

_APPLICATION = """
app = FastAPI()
app.get("/")(lambda: "yes")
serve.run(serve.deployment(name="api")(serve.ingress(app)(type("Api", (), {}))).bind(), route_prefix="/")
"""


def busy() -> float:
    """Return the seconds that all cores together have worked."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def timed(action: Callable[[], None]) -> dict[str, float]:
    """Return the wall and the CPU seconds that something takes."""
    worked, began = busy(), time.monotonic()
    action()
    return {"wall": time.monotonic() - began, "cpu": busy() - worked}


def ours(home: Path) -> dict[str, dict[str, float]]:
    """Start and stop a server."""
    server = RunningServer(home)
    return {"up": timed(server.start), "down": timed(server.stop)}


def peer(_: Path) -> dict[str, dict[str, float]]:
    """Start and stop a bare head with a Serve application of one route."""
    name = f"bench{os.getpid()}"

    def up() -> None:
        url = start_bare_ray(name, _APPLICATION)
        httpx.get(url, timeout=30, trust_env=False).raise_for_status()

    return {"up": timed(up), "down": timed(lambda: stop_bare_ray(name))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, list[dict[str, dict[str, float]]]] = {"ours": [], "peer": []}
    # Ray's sockets lie below this folder, and a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sy") as folder:
        for number in range(options.rounds + 1):
            for name, measure in (("ours", ours), ("peer", peer)):
                home = Path(folder) / f"{name}{number}"
                home.mkdir()
                figures = measure(home)
                if number:  # the first round fills the caches
                    found[name].append(figures)
    rows = [
        {"what": f"{name} {step}"}
        | {f"{unit}_{how}": fold(r[step][unit] for r in runs) for unit in ("wall", "cpu") for how, fold in _FOLDS}
        for name, runs in found.items()
        for step in ("up", "down")
    ]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"seconds, {options.rounds} rounds")
    for row in rows:
        print("  ".join(f"{key} {value:5.1f}" if key != "what" else f"{value:9}" for key, value in row.items()))


_FOLDS: tuple[tuple[str, Callable[..., float]], ...] = (("median", statistics.median), ("worst", max))

if __name__ == "__main__":
    main()
