"""How long does a task that does nothing take from submission to `succeeded`, beside the bare process and container?

    .venv/bin/python -m benchmarks.noop_latency [--runs 20] [--json]

A server is started for it. The client is the one that users have: it hashes, negotiates, submits over HTTP and waits on
the event stream. The floor is the same command as a bare process, and as a bare `podman run` of the same image, timed
in turns with the tasks. Given are the 20th run, the median, and CPU milliseconds of all processes of ours per task.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from simulators import catalogue
from simulators.runtimes.podman_host import podman_environment
from simyard import Client
from simyard.resources import MIB, Resources
from simyard.simulator import Command
from tests.running_server import RunningServer, running_server


def milliseconds(act: Callable[[], object]) -> float:
    """Return how long an action takes on the wall clock."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1000


def cpu_milliseconds(server: RunningServer) -> float:
    """Return the CPU time that the server's living processes have used."""
    total = 0.0
    for process in server.processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total * 1000


def measure(server: RunningServer, runtime: str, floor: list[str] | None, runs: int, case: Path) -> dict[str, float]:
    """Return the figures of one runtime, in milliseconds."""
    client = Client(url=server.url, key=server.key)

    def task() -> None:
        handle = client.run(
            "swmm",
            case,
            commands=[Command(argv=("true",))],
            runtime=runtime,
            resources=Resources(cpus=1, memory=256 * MIB),
        )
        handle.wait()
        if handle.status != "succeeded":
            raise SystemExit(f"a task ended as {handle.status}: {handle.reason}")

    environment = podman_environment() if runtime == "podman" else None
    tasks, floors = [], []
    task()
    before = cpu_milliseconds(server)
    for _ in range(runs):
        tasks.append(milliseconds(task))
        if floor:
            floors.append(milliseconds(lambda: subprocess.run(floor, check=True, env=environment)))
    used = cpu_milliseconds(server) - before
    found = {"last": tasks[-1], "median": statistics.median(tasks), "worst": max(tasks), "cpu_per_task": used / runs}
    return found | ({"floor_median": statistics.median(floors)} if floors else {})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as home:
        case = Path(home, "case")
        case.mkdir()
        (case / "in.txt").write_text("nothing\n")
        with running_server(Path(home)) as server:
            found["native"] = measure(server, "native", ["true"], options.runs, case)
            image = catalogue.find("swmm").versions[0].image
            if shutil.which("podman") and image is not None:
                server.simyard("images", "build", "swmm", timeout=900)
                bare = ["podman", "run", "--rm", "--network", "none", "--entrypoint", "true", image.tag]
                found["podman"] = measure(server, "podman", bare, options.runs, case)
    if options.json:
        print(json.dumps(found))
        return
    print(f"milliseconds from submission to `succeeded`, {options.runs} runs in a row, one warm actor")
    for runtime, figures in found.items():
        print(f"  {runtime:8}" + "  ".join(f"{name} {value:7.1f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
