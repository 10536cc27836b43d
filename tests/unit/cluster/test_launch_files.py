"""The files for other places than AWS: what Ray, the head and the operator of each would say of them."""

from __future__ import annotations

import base64
import copy
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

from cluster.arm_template import adapted
from cluster.boot import cloud_of
from cluster.cluster_file import groups_of, live_document
from cluster.fleet import offered_memory
from simyard.errors import InvalidInput
from simyard.group import Market
from simyard.resources import GIB
from simyard.task import LOCAL_GROUP

FOLDER = Path(__file__).parents[3] / "cluster" / "launch"
CLOUDS = ["gcp", "azure"]


def document(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return read


def live(name: str) -> dict[str, Any]:
    return live_document(document(name), {"local": 2}, "10.0.0.1:6379", {"RAY_AUTH_TOKEN": "abc"}, Path("/launches"))


def scripts(name: str) -> dict[str, str]:
    """Return the boot scripts of the node types, as their cloud gets them."""
    found = dict[str, str]()
    for node_type, one in live(name)["available_node_types"].items():
        config = one["node_config"]
        if name == "gcp":
            for item in config.get("metadata", {}).get("items", ()):
                assert item["key"] == "startup-script"
                found[node_type] = item["value"]
        elif (encoded := config["azure_arm_parameters"].get("customData")) is not None:
            found[node_type] = base64.b64decode(encoded).decode()
    return found


@pytest.mark.parametrize("name", [*CLOUDS, "on-premise"])
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(fillout_defaults(document(name)))
    validate_config(prepare_config(document(name)))


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_accepts_what_the_head_makes_of_it(name: str) -> None:
    validate_config(fillout_defaults(copy.deepcopy(live(name))))


@pytest.mark.parametrize("name", CLOUDS)
def test_it_has_the_groups_of_the_file_for_aws(name: str) -> None:
    groups = {group.name: group for group in groups_of(document(name))}
    assert groups.keys() == {LOCAL_GROUP, "spot", "memory", "gpu"}
    assert groups["spot"].types[0].market is Market.SPOT
    assert groups[LOCAL_GROUP].types[0].market is Market.ON_DEMAND
    assert groups["gpu"].shape.gpus == 1
    assert all(group.types[0].machine_type for group in groups.values())


@pytest.mark.parametrize(
    ("name", "group", "gib"),
    [
        ("gcp", "local", 88),
        ("gcp", "spot", 88),
        ("gcp", "memory", 176),
        ("gcp", "gpu", 64),
        ("azure", "local", 32),
        ("azure", "spot", 32),
        ("azure", "memory", 128),
        ("azure", "gpu", 28),
    ],
)
def test_its_machines_offer_what_simyard_takes_of_their_memory(name: str, group: str, gib: int) -> None:
    [found] = [one for one in groups_of(document(name)) if one.name == group]
    assert found.shape.memory == offered_memory(gib * GIB)


@pytest.mark.parametrize("name", CLOUDS)
def test_machines_boot_with_the_operators_lines_and_the_program_that_joins(name: str) -> None:
    found = scripts(name)
    assert found.keys() == {"local", "local-spot", "memory", "gpu"}, "and the head boots as ever"
    script = found["local-spot"]
    assert script.startswith("#!/bin/bash\n")
    assert 'eval "$(' in script
    [told] = re.findall(
        r"^echo (\S+) \| base64 -d \| exec /opt/simyard/.venv/bin/python -m cluster.join$", script, re.M
    )
    plan = json.loads(base64.b64decode(told))["plan"]
    assert (plan["cloud"], plan["group"], plan["type"]) == (name, "spot", "local-spot")


def test_a_startup_script_leaves_the_other_metadata_and_takes_the_place_of_an_earlier_one() -> None:
    _, gcp = cloud_of("local", {"machineType": "n2-standard-2"})
    before: dict[str, Any] = {"machineType": "n2", "metadata": {"items": [{"key": "a", "value": "b"}], "kind": "k"}}
    once = gcp.with_script(before, "first")
    twice = gcp.with_script(once, "second")
    assert twice["metadata"]["items"] == [{"key": "a", "value": "b"}, {"key": "startup-script", "value": "second"}]
    assert before["metadata"]["items"] == [{"key": "a", "value": "b"}], "what was given is as it was"


def rays_deployment(**parameters: str) -> dict[str, Any]:
    text = files("ray.autoscaler._private._azure").joinpath("azure-vm-template.json").read_text()
    given = {name: {"value": value} for name, value in parameters.items()}
    return {"properties": {"template": json.loads(text), "parameters": given}}


def test_a_boot_script_gets_into_the_template_by_which_ray_deploys_machines_on_azure() -> None:
    assert "customData" not in json.dumps(adapted(rays_deployment(vmSize="Standard_D2s_v5"))), "the head has none"
    asked = rays_deployment(vmSize="Standard_D2s_v5", customData="IyEvYmluL3NoCg==")
    before = copy.deepcopy(asked)
    template = adapted(asked)["properties"]["template"]
    assert asked == before, "what was given is as it was"
    assert template["parameters"]["customData"]["type"] == "securestring"
    [machine] = [one for one in template["resources"] if one["type"] == "Microsoft.Compute/virtualMachines"]
    assert machine["properties"]["osProfile"]["customData"] == "[parameters('customData')]"
    # Azure refuses parameters that a template has not, of which Ray passes these on.
    given = {"vmSize", "osDiskSize", "imageId", "priority", "customData"}
    assert given <= template["parameters"].keys()
    used = {
        name
        for one in document("azure")["available_node_types"].values()
        for name in one["node_config"]["azure_arm_parameters"]
    }
    assert used <= given


def test_what_no_cloud_has_is_refused_with_the_fields_that_clouds_have() -> None:
    with pytest.raises(InvalidInput, match="no cloud") as refused:
        cloud_of("local", {"flavor": "m1"})
    assert refused.value.field == "available_node_types.local.node_config"
    assert "machineType (gcp)" in str(refused.value.fix)


def test_the_operator_of_kubernetes_finds_the_fields_that_it_knows() -> None:
    cluster, claim = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert cluster["metadata"]["annotations"] == {"ray.io/overwrite-container-cmd": "true"}
    # Of the operator's schema: what RayCluster's spec and its groups may have.
    spec = cluster["spec"]
    assert spec.keys() <= {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert spec["headGroupSpec"].keys() == {"rayStartParams", "template"}
    for group in spec["workerGroupSpecs"]:
        sizes = {"replicas", "minReplicas", "maxReplicas"}
        assert group.keys() == {"groupName", "rayStartParams", "template", *sizes}
        assert len({group[size] for size in sizes}) == 1, "nobody sizes it"
    pods = [
        spec["headGroupSpec"]["template"]["spec"],
        *(group["template"]["spec"] for group in spec["workerGroupSpecs"]),
    ]
    for pod in pods:
        [container] = pod["containers"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert {"readinessProbe", "livenessProbe"} <= container.keys(), "or the operator asks for Ray's own dashboard"
    assert pods[0]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert f"{cluster['metadata']['name']}-head-svc:8470" in str(pods[1])


def test_no_file_holds_a_secret() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert not re.search(
            r"(?i)AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|password\s*[:=]\s*\S|syj?_[A-Za-z0-9_-]{20}", text
        ), path
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
            assert not re.search(rf"{name}=[^…\s]", text), path
