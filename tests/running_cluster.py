"""A cluster that `ray up` launched with our cluster file, on a cloud whose machines are real."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from simulators import catalogue
from simulators.runtimes.environment import prepare_environment
from simyard import Client
from tests.cloud.cloud import Cloud, Instance, running_cloud
from tests.cloud.resource_manager import SUBSCRIPTION
from tests.running_server import until

ROOT = Path(__file__).parents[1]
PORT = 8470
UP_SECONDS = 400
"""How long `ray up` may take on a busy machine."""


class Cluster:
    """A cluster that `ray up` has launched with our cluster file."""

    def __init__(self, cloud: Cloud, told: str) -> None:
        self.cloud = cloud
        [key] = re.findall(r"API key\s+(\S+)", told)
        [head] = self.machines("head")
        self.client = Client(f"http://{head.address}:{PORT}", key)

    def machines(self, node_type: str | None = None) -> list[Instance]:
        """Return the cluster's machines, or those of one node type, that the cloud has now."""
        found = self.cloud.instances("pending", "running")
        types = [(one, one.tags.get("ray-user-node-type")) for one in found]
        return [one for one, kind in types if kind is not None and node_type in (None, kind)]


def _overridden(
    cloud: Cloud, environments: Path, limit: int | None, lost_seconds: float | None, worker_setup: Sequence[str]
) -> dict[str, Any]:
    """Return our cluster file with what an operator changes, and with machines that fit into this one."""
    text = (ROOT / "cluster.yaml").read_text().replace("/opt/simyard/.venv", sys.prefix)
    document: dict[str, Any] = yaml.safe_load(text)
    document["provider"]["region"] = cloud.region
    document["auth"] = {"ssh_user": "root", "ssh_private_key": str(Path("/root/key.pem"))}
    document["idle_timeout_minutes"] = 0.1
    setup = ["mkdir -p ~/.local/share/simyard", f"ln -sfn '{environments}' ~/.local/share/simyard/environments"]
    document["metadata"]["simyard"]["worker_setup"] = [*setup, *worker_setup]
    if lost_seconds is not None:
        document["metadata"]["simyard"]["lost_seconds"] = lost_seconds
    for node_type in document["available_node_types"].values():
        changed = {"ImageId": cloud.image, "SubnetIds": [cloud.subnet], "KeyName": "key", "InstanceType": "c7i.large"}
        if limit is not None and "labels" in node_type:
            node_type["max_workers"] = limit
        node_type["node_config"] |= changed | {"IamInstanceProfile": {"Arn": cloud.instance_profile}}
    settings = "SIMYARD_WARM_SECONDS=2 "
    document["head_start_ray_commands"] = [settings + one for one in document["head_start_ray_commands"]]
    return document


def _googles(environments: Path) -> dict[str, Any]:
    """Return our cluster file for Google Cloud with what an operator changes, and with machines that fit into this."""
    document = _foreign("gcp", environments)
    document["auth"] = {"ssh_user": "root"}
    for name in ("local", "local-spot", "memory"):
        document["available_node_types"][name]["node_config"]["machineType"] = "c2d-standard-2"
    return document


def _azures(environments: Path) -> dict[str, Any]:
    """Return our cluster file for Azure with what an operator changes, and with machines that fit into this."""
    document = _foreign("azure", environments)
    document["provider"]["subscription_id"] = SUBSCRIPTION
    document["auth"] = {
        "ssh_user": "root",
        "ssh_private_key": "/root/key.pem",
        "ssh_public_key": "/root/key.pub",
    }
    document["metadata"]["simyard"]["lost_seconds"] = 30
    for node_type in document["available_node_types"].values():
        node_type["node_config"]["azure_arm_parameters"]["vmSize"] = "Standard_F2s_v2"
    return document


def _foreign(name: str, environments: Path) -> dict[str, Any]:
    """Return our cluster file for another cloud, with the machines' environments and no long waits."""
    text = (ROOT / "cluster" / "launch" / f"{name}.yaml").read_text().replace("/opt/simyard/.venv", sys.prefix)
    document: dict[str, Any] = yaml.safe_load(text)
    document["idle_timeout_minutes"] = 0.1
    setup = document["metadata"]["simyard"]["worker_setup"]
    setup += ["mkdir -p ~/.local/share/simyard", f"ln -sfn '{environments}' ~/.local/share/simyard/environments"]
    start = document["head_start_ray_commands"]
    document["head_start_ray_commands"] = [
        one.replace("SIMYARD_S", "SIMYARD_WARM_SECONDS=2 SIMYARD_S") for one in start
    ]
    return document


def _prepared(folder: Path) -> tuple[Path, Path]:
    """Return the folder of environments that machines have, with SWMM's in it, and an empty one for the cloud."""
    environments, place = folder / "environments", folder / "cloud"
    place.mkdir()
    spec = catalogue.find("swmm")
    # As a machine's image has it: machines of the test cloud reach no package host.
    prepare_environment(environments, spec.name, spec.versions[0], lambda: False)
    return environments, place


@contextmanager
def running_google_cluster(folder: Path) -> Iterator[Cluster]:
    """Launch the cluster on Google's cloud from the user's own machine, and take it down again."""
    environments, place = _prepared(folder)
    with running_cloud(place, shown=[environments], foreign="gcp") as cloud:
        home = cloud.desk.home
        (home / "account.json").write_bytes((place / "account.json").read_bytes())
        with _launched(cloud, _googles(environments), "GOOGLE_APPLICATION_CREDENTIALS=/root/account.json") as cluster:
            yield cluster
        until(lambda: cloud.foreign_left() == [], 30, what="the end of all that is paid for")


@contextmanager
def running_azure_cluster(folder: Path) -> Iterator[Cluster]:
    """Launch the cluster on Azure from the user's own machine, and take it down again."""
    environments, place = _prepared(folder)
    with running_cloud(place, shown=[environments], foreign="azure") as cloud:
        (cloud.desk.home / "key.pub").write_bytes(cloud.key.with_suffix(".pub").read_bytes())
        with _launched(cloud, _azures(environments)) as cluster:
            yield cluster
        until(lambda: cloud.foreign_left() == [], 30, what="the end of all that is paid for")


@contextmanager
def running_cluster(
    folder: Path,
    *,
    boot_seconds: float = 1.0,
    limit: int | None = None,
    lost_seconds: float | None = None,
    worker_setup: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Launch the cluster from the user's own machine, and take it down again; nothing of it is left then.

    `limit` is the most machines of a group, by default those of the file; after `lost_seconds` without the head a
    machine switches itself off; `worker_setup` are lines of shell for each machine before it joins.
    """
    environments, place = _prepared(folder)
    with (
        running_cloud(place, boot_seconds, shown=[environments]) as cloud,
        _launched(cloud, _overridden(cloud, environments, limit, lost_seconds, worker_setup)) as cluster,
    ):
        yield cluster


@contextmanager
def _launched(cloud: Cloud, document: Mapping[str, Any], *variables: str) -> Iterator[Cluster]:
    home = cloud.desk.home
    (home / "cluster.yaml").write_text(yaml.safe_dump(document))
    (home / "key.pem").write_bytes(cloud.key.read_bytes())
    (home / "key.pem").chmod(0o600)
    cloud.client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration={"LocationConstraint": cloud.region})
    ray = ["env", *variables, "ray"]
    up = cloud.run("desk", *ray, "up", "-y", "--no-config-cache", "cluster.yaml", timeout=UP_SECONDS)
    cluster = Cluster(cloud, up.stdout)
    with cluster.client:
        yield cluster
    cloud.run("desk", *ray, "down", "-y", "cluster.yaml", timeout=UP_SECONDS)
    assert cloud.instances("pending", "running") == []
