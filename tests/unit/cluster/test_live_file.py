"""The autoscaler's file as the head rewrites it."""

from __future__ import annotations

import base64
import copy
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.providers import _get_node_provider_cls
from ray.autoscaler._private.util import fillout_defaults, validate_config

from cluster.cluster_file import ClusterFile, boot_script, check_document, groups_of, live_document, machine_environment
from cluster.errors import ClusterFileBroken
from cluster.labels import GENERATION_TAG, GROUP_LABEL
from simyard.errors import InvalidInput
from simyard.resources import GIB

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "cluster.yaml").read_text())

LAUNCHES = Path("/launches.json")


def file(folder: Path, document: dict[str, Any] = DOCUMENT) -> ClusterFile:
    (folder / "live.yaml").write_text(yaml.safe_dump(document))
    return ClusterFile(folder / "live.yaml", folder / "kept.yaml")


def live(sizes: dict[str, int]) -> dict[str, Any]:
    return live_document(DOCUMENT, sizes, "10.0.0.1:6379", {"RAY_AUTH_TOKEN": "abc"}, LAUNCHES)


def told(script: str) -> Any:
    [found] = re.findall(r"^echo (\S+) \| base64 -d", script, re.MULTILINE)
    return json.loads(base64.b64decode(found))


def test_the_groups_of_the_cluster_file_are_known_with_what_their_machines_offer() -> None:
    groups = {one.name: one for one in groups_of(DOCUMENT)}
    assert {"local", "memory", "gpu"} <= groups.keys()
    local = groups["local"]
    assert [one.machine_type for one in local.types] == ["c7i.4xlarge"]
    assert (local.least, local.most, local.shape.cpus, local.shape.gpus) == (0, 20, 16, 0)
    assert 24 * GIB < local.shape.memory < 32 * GIB
    assert groups["gpu"].shape.gpus == 1
    assert local.shape.disk == 90 * GIB


def test_a_disk_that_nobody_has_ordered_is_not_known() -> None:
    document = copy.deepcopy(DOCUMENT)
    del document["available_node_types"]["local"]["node_config"]["BlockDeviceMappings"]
    assert {one.name: one for one in groups_of(document)}["local"].shape.disk == math.inf


def test_machines_are_tagged_with_group_and_server_beside_the_operator_s_own_tags() -> None:
    document = copy.deepcopy(DOCUMENT)
    own = {"Key": "team", "Value": "wind"}
    old = {"Key": GROUP_LABEL, "Value": "mine"}
    disks = {"ResourceType": "volume", "Tags": [own]}
    said = [{"ResourceType": "instance", "Tags": [own, old]}, disks]
    document["available_node_types"]["local"]["node_config"] |= {"TagSpecifications": said}
    made = live_document(document, {}, "10.0.0.1:6379", {"SIMYARD_SERVER": "s1"}, LAUNCHES)
    tags = [{"Key": GROUP_LABEL, "Value": "local"}, {"Key": GENERATION_TAG, "Value": "s1"}]
    found = made["available_node_types"]["local"]["node_config"]["TagSpecifications"]
    assert found == [disks, {"ResourceType": "instance", "Tags": [own, *tags]}]
    unnamed = live({})["available_node_types"]["gpu"]["node_config"]["TagSpecifications"]
    assert unnamed == [{"ResourceType": "instance", "Tags": [{"Key": GROUP_LABEL, "Value": "gpu"}]}]


def test_how_long_a_machine_waits_for_its_head_is_what_the_operator_says() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["metadata"]["simyard"]["lost_seconds"] = 20
    made = live_document(document, {}, "10.0.0.1:6379", {}, LAUNCHES)["available_node_types"]["local"]["node_config"]
    assert told(made["UserData"])["plan"]["lost_seconds"] == 20.0
    assert "lost_seconds" not in told(live({})["available_node_types"]["local"]["node_config"]["UserData"])["plan"]
    for wrong in ("soon", 0, -1, True, None, float("nan")):
        document["metadata"]["simyard"]["lost_seconds"] = wrong
        with pytest.raises(InvalidInput, match="no time"):
            live_document(document, {}, "10.0.0.1:6379", {}, LAUNCHES)


def test_the_live_file_is_read_as_it_is(tmp_path: Path) -> None:
    found = file(tmp_path)
    found.write(live_document(found.read(), {"local": 3}, "10.0.0.1:6379", {}, LAUNCHES))
    assert found.live()["available_node_types"]["local"]["min_workers"] == 3
    for text in ("[", "- 1"):
        (tmp_path / "live.yaml").write_text(text)
        with pytest.raises(ClusterFileBroken):
            found.live()


def test_ray_accepts_what_is_written_and_machines_join_by_themselves() -> None:
    document = live({"local": 3, "gpu": 10**6})
    validate_config(fillout_defaults(copy.deepcopy(document)))
    assert document["provider"]["disable_node_updaters"] is True
    provider = document["provider"]
    assert (provider["type"], provider["region"]) == ("external", DOCUMENT["provider"]["region"])
    assert _get_node_provider_cls(provider).__mro__[2].__name__ == "AWSNodeProvider"
    types = document["available_node_types"]
    assert (types["local"]["min_workers"], types["memory"]["min_workers"]) == (3, 0)
    assert types["gpu"]["min_workers"] == types["gpu"]["max_workers"]
    plan = told(types["local"]["node_config"]["UserData"])["plan"]
    assert (plan["head"], plan["group"], plan["type"], plan["cpus"]) == ("10.0.0.1:6379", "local", "local", 16)
    assert types["local"]["resources"] == {"CPU": 16, "memory": plan["memory"]}
    assert "UserData" not in types["head"]["node_config"]
    assert sum(one.get("min_workers", 0) for one in types.values()) <= document["max_workers"]


def test_more_than_the_cluster_may_have_is_not_asked_for() -> None:
    """Ray's autoscaler would refuse the whole file, and scale nothing."""
    small = DOCUMENT | {"max_workers": 25}
    made = live_document(small, dict.fromkeys(("local", "memory", "gpu"), 10**6), "10.0.0.1:6379", {}, LAUNCHES)
    types = made["available_node_types"]
    assert [types[name]["min_workers"] for name in ("local", "memory", "gpu")] == [20, 5, 0]
    validate_config(fillout_defaults(copy.deepcopy(made)))


def test_a_rewritten_file_is_always_made_of_what_ray_up_wrote(tmp_path: Path) -> None:
    cluster = file(tmp_path)
    assert cluster.read() == DOCUMENT
    assert cluster.write(live({"local": 1}))
    assert not cluster.write(live({"local": 1}))
    assert cluster.write(live({"local": 2}))
    assert cluster.read() == DOCUMENT
    newer = DOCUMENT | {"max_workers": 77}
    (tmp_path / "live.yaml").write_text(yaml.safe_dump(newer))
    assert cluster.read()["max_workers"] == 77
    cluster.write(live({}))
    assert (tmp_path / "live.yaml").stat().st_mode & 0o077 == 0, "it holds a token"


def test_what_was_asked_for_last_is_known_and_nothing_of_what_ray_up_wrote(tmp_path: Path) -> None:
    cluster = file(tmp_path)
    assert cluster.sizes() == {}
    cluster.write(live({"local": 2}))
    assert {name: size for name, size in cluster.sizes().items() if size} == {"local": 2}


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "just words"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    cluster = file(tmp_path)
    (tmp_path / "live.yaml").write_text(text)
    with pytest.raises(ClusterFileBroken):
        cluster.read()
    (tmp_path / "live.yaml").unlink()
    with pytest.raises(ClusterFileBroken):
        cluster.read()


def test_node_types_of_one_group_stand_in_for_each_other() -> None:
    twice = copy.deepcopy(DOCUMENT)
    twice["available_node_types"]["gpu"]["labels"] = {GROUP_LABEL: "local"}
    [local] = [one for one in groups_of(twice) if one.name == "local"]
    assert [(one.name, one.market.value) for one in local.types] == [("local", "on-demand"), ("gpu", "on-demand")]
    assert (local.least, local.most, local.shape.gpus) == (0, 24, 0)


def test_an_unknown_machine_type_is_refused_with_near_names() -> None:
    unknown = copy.deepcopy(DOCUMENT)
    unknown["available_node_types"]["local"]["node_config"]["InstanceType"] = "c7i.4xlarg"
    with pytest.raises(InvalidInput) as refused:
        groups_of(unknown)
    assert "c7i.4xlarge" in str(refused.value.fix)


def test_machines_are_told_what_they_need_and_nothing_else() -> None:
    environment = {"RAY_AUTH_TOKEN": "t", "SIMYARD_STORE": "postgresql://ada:secret@db/yard", "HOME": "/home/ada"}
    assert machine_environment(environment).keys() == {"RAY_AUTH_TOKEN", "RAY_gcs_rpc_server_reconnect_timeout_s"}
    script = boot_script({"group": 'it\'s "odd"'}, environment, python="/opt/a b/python", setup=("mount /data",))
    assert script.startswith("#!/bin/bash\nmount /data\n")
    assert "exec '/opt/a b/python' -m cluster.join" in script
    assert told(script)["plan"] == {"group": 'it\'s "odd"'}


@pytest.mark.parametrize(
    ("where", "key", "value", "field", "fix"),
    [
        ((), "max_worker", 3, None, "Did you mean max_workers?"),
        (("available_node_types", "local"), "min_worker", 2, "available_node_types.local", "Did you mean min_workers?"),
        ((), "max_workers", "many", "max_workers", "shows a whole one"),
        (("available_node_types", "gpu", "node_config"), "InstanceType", "g6.4xlarg", None, "g6.4xlarge"),
    ],
)
def test_a_cluster_file_with_a_mistake_is_refused_with_where_it_stands(
    where: tuple[str, ...], key: str, value: Any, field: str | None, fix: str
) -> None:
    document = copy.deepcopy(DOCUMENT)
    check_document(document)
    place = document
    for name in where:
        place = place[name]
    place[key] = value
    with pytest.raises(InvalidInput) as refused:
        check_document(document)
    assert fix in str(refused.value.fix)
    assert field in (None, refused.value.field)


PROVIDERS = (
    "cluster.azure",
    "cluster.gcp",
    "ray.autoscaler._private._azure.node_provider",
    "ray.autoscaler._private.gcp.node_provider",
)
"""What imports a cloud's packages. Not the packages around it: one that is imported anew is another one for good."""


@pytest.mark.parametrize(("cloud", "package"), [("gcp", "google-api-python-client"), ("azure", "azure-mgmt-compute")])
def test_a_head_without_what_ray_needs_of_its_cloud_is_not_started(
    cloud: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load((Path(__file__).parents[3] / "cluster" / "launch" / f"{cloud}.yaml").read_text())
    with monkeypatch.context() as bare:
        for module in ("googleapiclient", "azure.common.credentials"):
            bare.setitem(sys.modules, module, None)
        for module in PROVIDERS:
            bare.delitem(sys.modules, module, raising=False)
        with pytest.raises(InvalidInput, match="packages") as refused:
            check_document(document)
    assert package in str(refused.value.fix)
    check_document(document)
