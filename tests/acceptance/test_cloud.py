"""The cluster file on a cloud whose machines are real: `ray up`, tasks, and `ray down`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulators import catalogue
from simulators.runtimes.environment import prepare_environment
from simyard import Client
from tests.cloud.cloud import Cloud, running_cloud
from tests.running_server import until

ROOT = Path(__file__).parents[2]
PORT = 8470
UP_SECONDS = 400
"""How long `ray up` may take on a busy machine."""
pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1200)]


class Cluster:
    """A cluster that `ray up` has launched with our cluster file."""

    def __init__(self, cloud: Cloud, told: str) -> None:
        self.cloud = cloud
        [key] = re.findall(r"API key\s+(\S+)", told)
        [head] = self.machines("head")
        self.client = Client(f"http://{head.address}:{PORT}", key)

    def machines(self, node_type: str) -> list[Any]:
        """Return the machines of a node type that the cloud has now."""
        found = self.cloud.instances("pending", "running")
        return [one for one in found if one.tags.get("ray-user-node-type") == node_type]


def overridden(cloud: Cloud, environments: Path) -> dict[str, Any]:
    """Return our cluster file with what an operator changes, and with machines that fit into this one."""
    text = (ROOT / "cluster.yaml").read_text().replace("/opt/simyard/.venv", sys.prefix)
    document: dict[str, Any] = yaml.safe_load(text)
    document["provider"]["region"] = cloud.region
    document["auth"] = {"ssh_user": "root", "ssh_private_key": str(Path("/root/key.pem"))}
    document["idle_timeout_minutes"] = 0.1
    setup = ["mkdir -p ~/.local/share/simyard", f"ln -sfn '{environments}' ~/.local/share/simyard/environments"]
    document["metadata"]["simyard"]["worker_setup"] = setup
    for node_type in document["available_node_types"].values():
        changed = {"ImageId": cloud.image, "SubnetIds": [cloud.subnet], "KeyName": "key", "InstanceType": "c7i.large"}
        node_type["node_config"] |= changed | {"IamInstanceProfile": {"Arn": cloud.instance_profile}}
    settings = "SIMYARD_WARM_SECONDS=2 "
    document["head_start_ray_commands"] = [settings + one for one in document["head_start_ray_commands"]]
    return document


@contextmanager
def launched(cloud: Cloud, environments: Path) -> Iterator[Cluster]:
    """Launch the cluster from the user's own machine, and take it down again."""
    home = cloud.desk.home
    (home / "cluster.yaml").write_text(yaml.safe_dump(overridden(cloud, environments)))
    (home / "key.pem").write_bytes(cloud.key.read_bytes())
    (home / "key.pem").chmod(0o600)
    cloud.client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration={"LocationConstraint": cloud.region})
    up = cloud.run("desk", "ray", "up", "-y", "--no-config-cache", "cluster.yaml", timeout=UP_SECONDS)
    cluster = Cluster(cloud, up.stdout)
    with cluster.client:
        yield cluster
    cloud.run("desk", "ray", "down", "-y", "cluster.yaml", timeout=UP_SECONDS)
    assert cloud.instances("pending", "running") == []


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """The environments of native simulators, as a machine's image has them."""
    folder = tmp_path / "environments"
    spec = catalogue.find("swmm")
    prepare_environment(folder, spec.name, spec.versions[0], lambda: False)
    return folder


def test_a_group_follows_its_tasks_from_none_and_back(tmp_path: Path, environments: Path) -> None:
    (tmp_path / "cloud").mkdir()
    with running_cloud(tmp_path / "cloud", shown=[environments]) as cloud, launched(cloud, environments) as cluster:
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
        preempted(cloud, cluster, case)
        head_killed(cloud, cluster, case)


def head_killed(cloud: Cloud, cluster: Cluster, case: Path) -> None:
    """Kill Ray's head under a task: the server comes back, the machine joins again, and the task just goes on."""
    script = "echo begun; while [ ! -e /root/go ]; do sleep 0.2; done; echo over"
    task = cluster.client.run("swmm", case, commands=[["sh", "-c", script]], name="under the head's death")
    until(lambda: task.refresh().status.value == "running", 300, what="its start")
    [machine] = cluster.machines("local")
    [head] = cluster.machines("head")
    cloud.run(head.id, "pkill", "-KILL", "gcs_server")
    until(lambda: task.refresh().attempts[-1].adoptions, 300, what="its adoption")
    (machine.home / "go").touch()
    assert task.wait(timeout=120).value == "succeeded"
    assert len(task.info.attempts) == 1, task.info.attempts
    assert task.read(".simyard/stdout.log") == b"begun\nover\n"
    assert [one.id for one in cluster.machines("local")] == [machine.id]


def preempted(cloud: Cloud, cluster: Cluster, case: Path) -> None:
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
    cloud.preempt(machine.id, 40)
    assert task.wait(timeout=400).value == "succeeded"
    assert len(task.info.attempts) == 2, task.info.attempts
    first, second = task.info.attempts
    assert first.reason is not None
    assert first.reason.code.value == "preempted"
    assert second.resumed_from is not None
    assert first.machine != second.machine
    assert task.read("whole") == b"again\n"
