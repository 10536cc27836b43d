"""How much memory do the dispatcher and the Serve replica hold, at the start and after 1,000 tasks?

    .venv/bin/python -m benchmarks.head_memory [--tasks 1000] [--json]

Resident megabytes (MiB) of both together, read after every tenth of the tasks; beside them an empty Ray actor, which
is the floor for one process. Flat means that the last third does not grow.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from simyard.resources import MIB
from tests.running_server import RunningServer, running_server


def resident(server: RunningServer, title: str) -> float:
    """Return the resident MiB of the server's processes with this title."""
    return sum(p.memory_info().rss for p in server.processes(title)) / MIB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as home, running_server(Path(home)) as server:
        step = max(1, options.tasks // 10)
        for done in range(0, options.tasks + 1, step):
            if done:
                server.ended(*server.submit(("true",), count=step), seconds=600)
            row = {
                "tasks": done,
                "dispatcher": resident(server, "ray::DispatcherActor"),
                "replica": resident(server, "ray::ServeReplica"),
                "idle_worker": min((p.memory_info().rss for p in server.processes("ray::IDLE")), default=0) / MIB,
            }
            row["together"] = row["dispatcher"] + row["replica"]
            rows.append(row)
            if not options.json:
                print("  ".join(f"{name} {value:7.1f}" for name, value in row.items()), flush=True)
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
