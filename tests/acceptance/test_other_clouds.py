"""The cluster files for Google Cloud and Azure on a cloud whose machines are real, and whose APIs are emulators."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from cluster.labels import GROUP_LABEL
from tests.cloud.compute_engine import GoogleFault
from tests.cloud.resource_manager import AzureFault
from tests.running_cluster import ROOT, Cluster, running_azure_cluster, running_google_cluster
from tests.running_server import until

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1200)]
CASE = ROOT / "simulators" / "swmm" / "example"


@dataclass(frozen=True)
class Words:
    """What a cloud calls things."""

    running: Callable[[Path], AbstractContextManager[Cluster]]
    machine_type: str
    usd_per_hour: float
    small: str
    """A type whose machines fit into this one by twos."""
    no_capacity: StrEnum
    launch: str
    """The call that starts a machine."""
    launch_all: str
    """The call that starts several, or none."""


CLOUDS = {
    "azure": Words(
        running_azure_cluster, "Standard_F2s_v2", 0.1, "Standard_F2s_v2", AzureFault.NO_CAPACITY, "deploy", "deploy"
    ),
    "gcp": Words(
        running_google_cluster,
        "c4-standard-4",
        0.20755,
        "c2d-standard-2",
        GoogleFault.NO_CAPACITY,
        "insert",
        "bulk_insert",
    ),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_up_tasks_groups_preemption_and_ray_down(name: str, tmp_path: Path) -> None:
    words = CLOUDS[name]
    with words.running(tmp_path) as cluster:
        client = cluster.client
        assert cluster.machines("local") == []
        task = client.run("swmm", CASE, parameters={"input_file": "model.inp"})
        assert task.wait(timeout=300).value == "succeeded", json.dumps(task.explain().model_dump(mode="json"))
        assert task.table("summary").num_rows > 0
        until(lambda: cluster.machines("local") == [], 180, what="the end of the idle machine")
        made_by_command(cluster, words)
        comes_whole(cluster, words)
        preempted(cluster)
        if name == "azure":
            head_gone(cluster)


def made_by_command(cluster: Cluster, words: Words) -> None:
    """Make a group while no spot machine can be had: it takes another market, says why, and ends with its tasks."""
    client, cloud = cluster.client, cluster.cloud
    cloud.foreign_inject(words.no_capacity, words.launch, 1000, spot_alone=True)
    client.groups.create("bench", words.machine_type, max=2, market="spot-then-on-demand", idle="8s", disk="64GB")
    task = client.run("swmm", CASE, commands=[["sh", "-c", "echo begun > told; sleep 600"]], group="bench")
    until(lambda: client.groups.get("bench").troubles, 120, what="the trouble")
    [trouble] = client.groups.get("bench").troubles
    assert (trouble.code, trouble.market.value) == (words.no_capacity.value, "spot")
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    [machine] = [one for one in cluster.machines() if one.tags.get(GROUP_LABEL) == "bench"]
    assert (machine.kind, machine.market) == (words.machine_type, "on-demand")
    cloud.foreign_heal()
    # The ledger has what the cloud lists every 15 seconds, at the prices that the head has asked for.
    until(lambda: client.machines.page(group="bench").machines, 60, what="its row in the ledger")
    [row] = client.machines.page(group="bench").machines
    assert row.id == machine.id
    assert row.id.startswith("ray-simyard-worker-")
    assert (row.machine_type, row.market, row.price_per_hour) == (words.machine_type, "on-demand", words.usd_per_hour)
    client.groups.end("bench", now=True)
    assert task.wait(timeout=60).value == "cancelled"
    assert task.read("told") == b"begun\n"
    until(lambda: machine.id not in [one.id for one in cluster.machines()], 120, what="the end of its machine")
    until(lambda: "bench" not in [one.name for one in client.groups.list()], 60, what="the end of the group")


def comes_whole(cluster: Cluster, words: Words) -> None:
    """Make an MPI group: both machines come by one request."""
    client, cloud = cluster.client, cluster.cloud
    before = cloud.foreign_calls(words.launch_all)
    client.groups.create("whole", words.small, max=2, mpi=True, idle="8s")
    task = client.run("swmm", CASE, commands=[["sleep", "2"]], group="whole")
    until(lambda: len(client.groups.get("whole").machines) == 2, 300, what="both of its machines")
    assert task.wait(timeout=120).value == "succeeded"
    assert cloud.foreign_calls(words.launch_all) == before + 1
    client.groups.end("whole")
    until(lambda: "whole" not in [one.name for one in client.groups.list()], 180, what="the end of the group")


def preempted(cluster: Cluster) -> None:
    """Take a machine away with half a minute's notice: its task goes on from its restart file, and is not charged."""
    client, cloud = cluster.client, cluster.cloud
    script = "if [ -e part ]; then echo again; else echo half > part; sleep 600; fi"
    checkpoint = {"files": ["part"], "every": "1h"}
    task = client.run("swmm", CASE, commands=[["sh", "-c", script]], group="spot", checkpoint=checkpoint)
    until(lambda: "part" in {file.path for file in task.files()}, 300, what="its restart file")
    [machine] = cluster.machines("local-spot")
    assert machine.market == "spot"
    cloud.preempt(machine.id, 30)
    assert task.wait(timeout=300).value == "succeeded"
    first, second = task.info.attempts
    assert first.reason is not None
    assert (first.reason.code.value, second.machine != first.machine) == ("preempted", True)
    assert task.read(".simyard/stdout.log") == b"again\n"


def head_gone(cluster: Cluster) -> None:
    """Cut the head off: a machine that does not hear of it deletes itself, since switched off it would be paid for."""
    client, cloud = cluster.client, cluster.cloud
    task = client.run("swmm", CASE, commands=[["sleep", "600"]])
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    [machine] = cluster.machines("local")
    [head] = cluster.machines("head")
    mine = [one for one in cloud.foreign_left() if one.startswith(machine.id.removesuffix("0"))]
    assert len(mine) == 3, "itself, its disk and its interface"
    cloud.cut(head.id)
    until(lambda: not set(mine).intersection(cloud.foreign_left()), 180, what="the end of the machine")
    cloud.mend(head.id)
