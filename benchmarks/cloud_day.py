"""What does a day on the cloud cost and lose, when machines come, are taken away and die?

    .venv/bin/python -m benchmarks.cloud_day [--tasks 60] [--seconds 180] [--machines 4]

Launches `cluster.yaml` with `ray up` on the tests' cloud (an EC2 emulator whose machines are namespaces of this host:
root is needed), makes an elastic group of spot machines with two cores each by a command, submits tasks of one core to
it, SWMM natively and CalculiX in podman by turns, takes one machine away with notice, kills one at once, kills Ray's
head once, and ends the group. Each task waits for `--seconds` before it computes, so that many of them fill machines
and not the two cores of this host. Prints one JSON line: what was accepted, succeeded, lost and doubled, machines that
were left (`leaks`), machine-hours as the cloud would bill them, as the ledger of the server has them, and at the ideal
packing (every core always busy, no boot), `wasted` as the share of the billed ones that is not ideal, and the seconds
from submission to start: alone (one machine is started, on a quiet host), cold (the first of all tasks, while several
are, on the two cores of this host) and warm (one is there, and idle).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from simyard import Task
from simyard.errors import Unavailable
from tests.cloud.cloud import Instance
from tests.running_cluster import ROOT, Cluster, running_cluster
from tests.running_server import until

CORES = 2
PATIENCE = 1200.0
GROUP = "day"
IDLE_SECONDS = 6


def machines_of(cluster: Cluster) -> list[Instance]:
    """Return the group's machines that the cloud has now."""
    return [one for one in cluster.machines() if one.tags["ray-user-node-type"].startswith(f"{GROUP}-")]


class Bill:
    """Counts how long machines are there, from their launch to their end, as a cloud bills them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stopped = threading.Event()
        self.seconds = 0.0
        self.most = 0
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(0.5):
            now = time.monotonic()
            machines = machines_of(self._cluster)
            self.seconds += len(machines) * (now - before)
            self.most = max(self.most, len(machines))
            before = now

    def close(self) -> float:
        """Return the machine-hours."""
        self._stopped.set()
        self._thread.join()
        return self.seconds / 3600


def has_ended(task: Task) -> bool:
    """Say whether a task has ended, also while the head that was killed comes back and nobody answers."""
    with suppress(Unavailable):
        task.refresh()
    return task.info.status.is_end


def start_of(task: Task) -> float:
    """Return the seconds from a task's submission to the start of its commands."""
    started = task.refresh().started_at
    assert started is not None
    return (started - task.info.created_at) / timedelta(seconds=1)


def alone(cluster: Cluster) -> float:
    """Return the seconds from submission to start where one machine is started, and nothing else happens."""
    client = cluster.client
    client.groups.create("alone", "c7i.large", max=1, market="spot", idle=IDLE_SECONDS)
    case = ROOT / "simulators" / "swmm" / "example"
    task = client.run("swmm", case, commands=["true"], group="alone", cpus=1, memory="256MiB")
    task.wait(timeout=PATIENCE)
    client.groups.end("alone")
    until(lambda: "alone" not in [one.name for one in client.groups.list()], PATIENCE, what="the end of the group")
    return start_of(task)


def day(cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures."""
    client, first = cluster.client, alone(cluster)
    client.groups.create(GROUP, "c7i.large", max=options.machines, market="spot", idle=IDLE_SECONDS)
    wait = ["sleep", str(options.seconds)]
    work = {
        "swmm": [wait, ["runswmm", "model.inp", "model.rpt", "model.out"]],
        "calculix": [wait, ["ccx", "-i", "cantilever"]],
    }

    def submit(simulator: str) -> Task:
        case = ROOT / "simulators" / simulator / "example"
        return client.run(simulator, case, commands=work[simulator], group=GROUP, cpus=1, memory="256MiB")

    bill = Bill(cluster)
    tasks = [submit(list(work)[i % len(work)]) for i in range(options.tasks)]
    until(lambda: len(machines_of(cluster)) >= options.machines, PATIENCE, what="the machines")
    until(lambda: any(task.refresh().status.value == "running" for task in tasks), PATIENCE, what="a first start")
    cold = min(start_of(task) for task in tasks if task.refresh().started_at is not None)
    busy = [m.id for m in machines_of(cluster)]
    cluster.cloud.preempt(busy[0], 60)
    until(lambda: sum(map(has_ended, tasks)) >= options.tasks // 4, PATIENCE, what="a quarter")
    victim = next(m.id for m in machines_of(cluster) if m.id != busy[0])
    cluster.cloud.kill(victim)
    until(lambda: sum(map(has_ended, tasks)) >= options.tasks // 2, PATIENCE, what="the half")
    [head] = cluster.machines("head")
    cluster.cloud.run(head.id, "pkill", "-KILL", "gcs_server")
    until(lambda: all(map(has_ended, tasks)), PATIENCE, what="the end of all")
    ended = time.monotonic()
    warm = []
    for _ in range(5):
        case = ROOT / "simulators" / "swmm" / "example"
        probe = client.run("swmm", case, commands=["true"], group=GROUP, cpus=1, memory="256MiB")
        probe.wait(timeout=PATIENCE)
        warm.append(start_of(probe))
    until(lambda: machines_of(cluster) == [], PATIENCE, what="the end of idle machines")
    idle_ended = time.monotonic() - ended
    hours = bill.close()
    client.groups.end(GROUP)
    until(lambda: GROUP not in [one.name for one in client.groups.list()], PATIENCE, what="the end of the group")
    ledger = client.groups.cost(GROUP)
    results = [task.info for task in tasks]
    ideal = options.tasks * options.seconds / CORES / 3600
    return {
        "accepted": len(tasks),
        "succeeded": sum(info.status.value == "succeeded" for info in results),
        "lost": sum(not info.status.is_end for info in results),
        "doubled": sum(sum(one.exit_code == 0 for one in info.attempts) > 1 for info in results),
        "attempts": sum(len(info.attempts) for info in results),
        "adopted": sum(one.adoptions for info in results for one in info.attempts),
        "most_machines": bill.most,
        "machine_hours": round(hours, 3),
        "ledger_machine_hours": round(ledger.hours, 3),
        "ledger_machines": ledger.machines,
        "ideal_machine_hours": round(ideal, 3),
        "wasted": round(1 - ideal / hours, 3),
        "start_alone_s": round(first, 1),
        "start_cold_s": round(cold, 1),
        "start_warm_s": round(statistics.median(warm), 3),
        "empty_after_s": round(idle_ended, 1),
    }


def main() -> None:
    """Run the day and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument(
        "--machines", type=int, default=4, help="how many are waited for before the first is taken away"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simyard-day-") as folder:
        with running_cluster(Path(folder)) as cluster:
            figures = day(cluster, options)
            cloud = cluster.cloud
            left = len(cloud.instances("pending", "running")) - 1
        # `running_cluster` has seen that `ray down` left nothing, or had failed.
        print(json.dumps({"benchmark": "cloud_day", **figures, "leaks": left}))


if __name__ == "__main__":
    main()
