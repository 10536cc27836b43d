"""The cluster file on a cloud whose machines are real: `ray up`, tasks, and `ray down`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from cluster.labels import GROUP_LABEL
from cluster.server_mark import mark_of
from tests.cloud.faults import Fault
from tests.running_cluster import ROOT, Cluster, running_cluster
from tests.running_server import SIMYARD, until

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1200)]


def test_a_group_follows_its_tasks_from_none_and_back(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        client = cluster.client
        [local] = [group for group in client.groups.list() if group.name == "local"]
        assert (local.machines, local.min, local.max) == ((), 0, 20)
        assert cluster.machines("local") == []
        case = ROOT / "simulators" / "swmm" / "example"
        tasks = [client.run("swmm", case, parameters={"input_file": "model.inp"}) for _ in range(2)]
        for task in tasks:
            assert task.wait(timeout=300).value == "succeeded", json.dumps(task.explain().model_dump(mode="json"))
            [attempt] = task.info.attempts
            assert attempt.machine.startswith("ip-")
        assert tasks[0].table("summary").num_rows > 0
        until(lambda: cluster.machines("local") == [], 180, what="the end of the idle machines")
        made_by_command(cluster, case)
        comes_whole(cluster, case)
        preempted(cluster, case)
        own_hardware(cluster, case, tmp_path / "environments")
        shown_by_ray(cluster)
        head_killed(cluster, case)
        priced(cluster, case)


def test_a_machine_whose_head_is_dead_keeps_what_its_run_has_and_ends_itself(tmp_path: Path) -> None:
    with running_cluster(tmp_path, lost_seconds=45) as cluster:
        case = ROOT / "simulators" / "swmm" / "example"
        script = "echo half > part; sleep 600"
        checkpoint = {"files": ["part"], "every": "1h"}
        task = cluster.client.run("swmm", case, commands=[["sh", "-c", script]], checkpoint=checkpoint)
        until(lambda: task.refresh().status.value == "running", 300, what="its start")
        until(lambda: "part" in {file.path for file in task.files()}, 60, what="its restart file")
        [machine] = cluster.machines("local")
        [head] = cluster.machines("head")
        objects = cluster.cloud.client("s3")

        def kept() -> list[str]:
            told = objects.list_objects_v2(Bucket="my-bucket", Prefix=f"simyard/tasks/{task.id}/")
            return [one["Key"] for one in told.get("Contents", ()) if "snapshot" in one["Key"]]

        assert kept() == []
        # For longer than the lease: then nobody can say that the attempt is still the current one.
        cluster.cloud.kill(head.id)
        until(lambda: cluster.cloud.instances("pending", "running") == [], 200, what="the end of the machine")
        told = cluster.cloud.ec2.describe_instances(InstanceIds=[machine.id])["Reservations"][0]["Instances"][0]
        assert told["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
        assert any(key.endswith(".parquet") for key in kept()), kept()


def head_killed(cluster: Cluster, case: Path) -> None:
    """Kill Ray's head under a task: the server comes back, the machine joins again, and the task just goes on."""
    script = "echo begun; while [ ! -e /root/go ]; do sleep 0.2; done; echo over"
    task = cluster.client.run("swmm", case, commands=[["sh", "-c", script]], name="under the head's death")
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    [machine] = cluster.machines("local")
    [head] = cluster.machines("head")
    cluster.cloud.run(head.id, "pkill", "-KILL", "gcs_server")
    until(lambda: task.refresh().attempts[-1].adoptions, 300, what="its adoption")
    (machine.home / "go").touch()
    assert task.wait(timeout=120).value == "succeeded"
    assert len(task.info.attempts) == 1, task.info.attempts
    assert task.read(".simyard/stdout.log") == b"begun\nover\n"
    assert [one.id for one in cluster.machines("local")] == [machine.id]


def made_by_command(cluster: Cluster, case: Path) -> None:
    """Make a group while no spot machine can be had: it takes another market, says why, and ends with its tasks."""
    client, cloud = cluster.client, cluster.cloud
    cloud.inject(Fault.NO_CAPACITY, 1000, where={"InstanceMarketOptions.MarketType": "spot"})
    made = client.groups.create("bench", "c7i.large", max=2, market="spot-then-on-demand", idle="8s", disk="30GB")
    assert (made.min, made.max, made.machines, made.state.value) == (0, 2, (), "ready")
    task = client.run("swmm", case, commands=[["sh", "-c", "echo begun > told; sleep 600"]], group="bench")
    until(lambda: client.groups.get("bench").troubles, 60, what="the trouble")
    [trouble] = client.groups.get("bench").troubles
    assert (trouble.code, trouble.market.value) == ("InsufficientInstanceCapacity", "spot")
    assert "further machine types" in trouble.fix
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    [machine] = [one for one in cluster.machines() if "-c7i.large-" in one.tags["ray-user-node-type"]]
    assert machine.market == "on-demand"
    asked = [call for call in cloud.calls("RunInstances") if call.status == 500]
    assert 1 <= len(asked) <= 4, "it is not asked again hotly"
    cloud.heal()
    ending = client.groups.end("bench", now=True)
    assert (ending.state.value, ending.running) == ("ending", 1)
    assert task.wait(timeout=60).value == "cancelled"
    assert task.read("told") == b"begun\n"
    until(lambda: machine.id not in [one.id for one in cluster.machines()], 120, what="the end of its machine")
    until(lambda: "bench" not in [one.name for one in client.groups.list()], 60, what="the end of the group")


def comes_whole(cluster: Cluster, case: Path) -> None:
    """Make an MPI group while the cloud has one machine less: none is paid for, and then all come by one request."""
    client, cloud = cluster.client, cluster.cloud

    def machines() -> list[str]:
        return [one.id for one in cluster.machines() if one.tags.get(GROUP_LABEL) == "whole"]

    before = len(cloud.calls("RunInstances"))
    cloud.inject(Fault.FEWER, 1000)
    client.groups.create("whole", "c7i.large", max=2, mpi=True, idle="8s")
    task = client.run("swmm", case, commands=[["sleep", "2"]], group="whole")
    until(lambda: client.groups.get("whole").troubles, 60, what="the trouble")
    assert client.groups.get("whole").troubles[0].code == "InsufficientInstanceCapacity"
    assert machines() == []
    cloud.heal()
    until(lambda: len(client.groups.get("whole").machines) == 2, 300, what="both of its machines")
    assert task.wait(timeout=120).value == "succeeded"
    asked = [call for call in cloud.calls("RunInstances")[before:] if call.status == 200]
    assert [(one.parameters["MinCount"], one.parameters["MaxCount"]) for one in asked] == [("2", "2")]
    until(lambda: machines() == [], 120, what="the end of both, which are idle")
    client.groups.end("whole")
    until(lambda: "whole" not in [one.name for one in client.groups.list()], 60, what="the end of the group")


def priced(cluster: Cluster, case: Path) -> None:
    """The head has asked for the prices of its region: tasks cost their share, and quotas keep them back."""
    client = cluster.client
    [head] = cluster.machines("head")
    [row] = [one for one in client.machines.page().machines if one.id == head.id]
    assert (row.machine_type, row.price_per_hour) == ("c7i.large", 0.72)

    def admin(*arguments: str) -> str:
        return cluster.cloud.run(head.id, sys.executable, "-m", "simyard", "admin", *arguments).stdout

    task = client.run("swmm", case, commands=[["sleep", "600"]], name="priced", project="costly")
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    # One of two cores.
    assert task.info.attempts[0].usd_per_hour == pytest.approx(0.36)
    admin("quota", "set", "--user", "root", "--usd-per-hour", "0.5")
    waits = client.run("swmm", case, commands=[["true"]], name="too dear", project="costly")
    until(
        lambda: "what runs costs 0.36 USD, and it may cost 0.36 USD" in waits.explain().summary, 30, what="its reason"
    )
    assert len(cluster.machines("local")) == 1
    task.cancel()
    assert task.wait(timeout=60).value == "cancelled"
    assert waits.wait(timeout=120).value == "succeeded"
    spent = sum(one.refresh().cost_usd or 0.0 for one in (task, waits))
    assert spent > 0
    [project] = [one for one in client.projects.list() if one.name == "costly"]
    assert project.usd_this_month == pytest.approx(spent, abs=1e-5)
    admin("quota", "set", "--user", "root", "--usd-per-month", "0.00001")
    late = client.run("swmm", case, commands=[["true"]], name="too late", project="costly")
    until(lambda: "are spent this month" in late.explain().summary, 30, what="its reason")
    late.cancel()
    admin("quota", "remove", "--user", "root")


def own_hardware(cluster: Cluster, case: Path, environments: Path) -> None:
    """Let a machine of one's own join: it is a group beside those that the cloud starts, and nobody ends it."""
    cloud, client = cluster.cloud, cluster.client
    [head] = cluster.machines("head")
    told = cloud.run(head.id, SIMYARD, "admin", "join-token", "create", "--json").stdout
    (cloud.desk.home / "token").write_text(json.loads(told)["token"])
    name = cloud.run("desk", "hostname").stdout.strip()
    mark = mark_of((head.home / ".local/share/simyard/server/id").read_text().strip(), name)
    kept = cloud.desk.home / ".local/share/simyard/joined" / mark
    kept.mkdir(parents=True)
    (kept / "environments").symlink_to(environments)
    join = f"{SIMYARD} join http://{head.address}:8470 --cpus=1 --memory=1GiB --token-file=token"
    refused = cloud.run("desk", "bash", "-c", f"{join} --group=local", check=False)
    assert (refused.returncode, "--group" in refused.stderr) == (2, True), refused.stderr
    started = cloud.run("desk", "bash", "-c", f"nohup {join} --group=own >join.log 2>&1 & echo $!")
    log = cloud.desk.home / "join.log"
    until(lambda: "own" in {one.name for one in client.groups.list()}, 120, what="that the machine joins")
    task = client.run("swmm", case, parameters={"input_file": "model.inp"}, group="own")
    assert task.wait(timeout=300).value == "succeeded", json.dumps(task.explain().model_dump(mode="json"))
    assert task.info.attempts[-1].machine == name
    [own] = [one for one in client.groups.list() if one.name == "own"]
    assert [machine.name for machine in own.machines] == [name]
    cloud.run("desk", "kill", "-INT", started.stdout.strip())
    until(lambda: "its owner's alone again" in log.read_text(), 90, what="that it has left")


def shown_by_ray(cluster: Cluster) -> None:
    """Look at Ray's dashboard from the user's own machine, as the how-to tells: it is there while that lasts."""
    cloud = cluster.cloud
    [head] = cluster.machines("head")
    show = f"ray exec --port-forward 8265 cluster.yaml '{SIMYARD} admin ray-dashboard'"
    cloud.run("desk", "bash", "-c", f"nohup {show} >dashboard.log 2>&1 &")
    log = cloud.desk.home / "dashboard.log"
    token = until(lambda: re.search(r"token +(\w+)", log.read_text()), 90, what="the dashboard")[1]
    asked = ["curl", "-sS", "-H", f"Authorization: Bearer {token}", "http://localhost:8265/nodes?view=summary"]
    nodes = json.loads(cloud.run("desk", *asked).stdout)["data"]["summary"]
    assert head.address in {node["raylet"]["nodeManagerAddress"] for node in nodes}
    cloud.run("desk", "pkill", "-x", "ssh")
    listening = ["ss", "-Hltn", "sport = 8265"]
    until(lambda: not cloud.run(head.id, *listening).stdout, 30, what="the end of the dashboard")


def preempted(cluster: Cluster, case: Path) -> None:
    """Let a spot machine be taken away under a task: it goes on elsewhere from what it had kept."""
    client = cluster.client
    script = "if [ -e part ]; then echo again > whole; else echo once > part; sleep 600; fi"
    task = client.run(
        "swmm", case, commands=[["sh", "-c", script]], group="spot", checkpoint={"files": ["part"]}, name="spot"
    )
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    until(lambda: "part" in {file.path for file in task.files()}, 60, what="its restart file")
    [machine] = cluster.machines("local-spot")
    assert machine.market == "spot"
    cluster.cloud.preempt(machine.id, 40)
    assert task.wait(timeout=400).value == "succeeded"
    assert len(task.info.attempts) == 2, task.info.attempts
    first, second = task.info.attempts
    assert first.reason is not None
    assert first.reason.code.value == "preempted"
    assert second.resumed_from is not None
    assert first.machine != second.machine
    assert task.read("whole") == b"again\n"
