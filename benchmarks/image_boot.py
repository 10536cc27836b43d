"""How much later does a first task start on a cold machine that has to fetch the task's image?

    .venv/bin/python -m benchmarks.image_boot [--rounds 3]

Launches `cluster.yaml` on the tests' cloud (an EC2 emulator whose machines are namespaces of this host: root and podman
are needed) with machines that have no image, and puts SWMM's image into the bucket, as `simyard images build` on the
head does. Seconds from submission to start, medians, one machine at a time:

`native`     the floor: on a machine that is started for the task, which needs no image
`image`      likewise, and the image is fetched while the machine starts Ray and joins
`fetch`      what the same fetch takes on that machine later, with nothing beside it
`in_turn`    `native` and `fetch` together, which `image` would be without the overlap
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cloud_day import start_of
from simyard import Task
from tests.running_cluster import ROOT, Cluster, running_cluster
from tests.running_server import SIMYARD, until

PATIENCE = 600.0
STORAGE = "SIMYARD_STORAGE=s3://my-bucket/simyard"
NO_IMAGES = "sed -i /additionalimagestores/d /etc/containers/storage.conf"
"""Machines of the tests' cloud see this host's images otherwise."""


def run(cluster: Cluster, runtime: str) -> Task:
    """Run a task that does nothing, and return it ended."""
    case = ROOT / "simulators" / "swmm" / "example"
    task = cluster.client.run("swmm", case, commands=["true"], runtime=runtime, cpus=1, memory="256MiB")
    assert task.wait(timeout=PATIENCE).value == "succeeded", task.explain()
    return task


def round_of(cluster: Cluster) -> dict[str, float]:
    """Return the seconds of one round, which leaves no machine."""
    native = start_of(run(cluster, "native"))
    until(lambda: cluster.machines("local") == [], PATIENCE, what="the end of the machine")
    image = start_of(run(cluster, "podman"))
    [machine] = cluster.machines("local")
    cluster.cloud.run(machine.id, "podman", "rmi", "--all", "--force")
    began = time.monotonic()
    command = [sys.executable, "-m", "simulators.wanted_images", "local"]
    cluster.cloud.run(machine.id, "env", STORAGE, *command, timeout=PATIENCE)
    fetch = time.monotonic() - began
    assert cluster.cloud.run(machine.id, "podman", "images", "--quiet").stdout
    until(lambda: cluster.machines("local") == [], PATIENCE, what="the end of the machine")
    return {"native": native, "image": image, "fetch": fetch, "in_turn": native + fetch}


def main() -> None:
    """Run the rounds and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="simyard-boot-") as folder,
        running_cluster(Path(folder), worker_setup=[NO_IMAGES]) as cluster,
    ):
        [head] = cluster.machines("head")
        build = [SIMYARD, "images", "build", "swmm", "--engine", "podman"]
        cluster.cloud.run(head.id, "env", STORAGE, *build, timeout=PATIENCE)
        rounds = [round_of(cluster) for _ in range(options.rounds)]
    figures = {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]}
    print(json.dumps({"benchmark": "image_boot", "rounds": options.rounds, "load": os.getloadavg()[0], **figures}))


if __name__ == "__main__":
    main()
