"""The cluster file for Google Cloud on a cloud whose machines are real, and whose APIs are an emulator of Google's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.labels import GROUP_LABEL
from tests.cloud.compute_engine import GoogleFault
from tests.running_cluster import ROOT, Cluster, running_google_cluster
from tests.running_server import until

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1200)]
CASE = ROOT / "simulators" / "swmm" / "example"


def test_ray_up_tasks_groups_preemption_and_ray_down(tmp_path: Path) -> None:
    with running_google_cluster(tmp_path) as cluster:
        client = cluster.client
        assert cluster.machines("local") == []
        task = client.run("swmm", CASE, parameters={"input_file": "model.inp"})
        assert task.wait(timeout=300).value == "succeeded", json.dumps(task.explain().model_dump(mode="json"))
        assert task.table("summary").num_rows > 0
        until(lambda: cluster.machines("local") == [], 180, what="the end of the idle machine")
        made_by_command(cluster)
        comes_whole(cluster)
        preempted(cluster)


def made_by_command(cluster: Cluster) -> None:
    """Make a group while no spot machine can be had: it takes another market, says why, and ends with its tasks."""
    client, cloud = cluster.client, cluster.cloud
    cloud.google_inject(GoogleFault.NO_CAPACITY, "insert", 1000, spot_alone=True)
    client.groups.create("bench", "c4-standard-4", max=2, market="spot-then-on-demand", idle="8s", disk="30GB")
    task = client.run("swmm", CASE, commands=[["sh", "-c", "echo begun > told; sleep 600"]], group="bench")
    until(lambda: client.groups.get("bench").troubles, 120, what="the trouble")
    [trouble] = client.groups.get("bench").troubles
    assert (trouble.code, trouble.market.value) == ("ZONE_RESOURCE_POOL_EXHAUSTED", "spot")
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    [machine] = [one for one in cluster.machines() if one.tags.get(GROUP_LABEL) == "bench"]
    assert (machine.kind, machine.market) == ("c4-standard-4", "on-demand")
    cloud.google_heal()
    # The ledger has what the cloud lists every 15 seconds.
    until(lambda: client.machines.page(group="bench").machines, 60, what="its row in the ledger")
    [row] = client.machines.page(group="bench").machines
    assert row.id == machine.id
    assert row.id.startswith("ray-simyard-worker-")
    assert (row.machine_type, row.market, row.price_per_hour) == ("c4-standard-4", "on-demand", 0.20755)
    client.groups.end("bench", now=True)
    assert task.wait(timeout=60).value == "cancelled"
    assert task.read("told") == b"begun\n"
    until(lambda: machine.id not in [one.id for one in cluster.machines()], 120, what="the end of its machine")
    until(lambda: "bench" not in [one.name for one in client.groups.list()], 60, what="the end of the group")


def comes_whole(cluster: Cluster) -> None:
    """Make an MPI group: both machines come by one request."""
    client, cloud = cluster.client, cluster.cloud
    client.groups.create("whole", "c2d-standard-2", max=2, mpi=True, idle="8s")
    task = client.run("swmm", CASE, commands=[["sleep", "2"]], group="whole")
    until(lambda: len(client.groups.get("whole").machines) == 2, 300, what="both of its machines")
    assert task.wait(timeout=120).value == "succeeded"
    assert len(cloud.google_calls("bulk_insert")) == 1
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
