"""Groups that were made by a command, as node types of the autoscaler's file."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from cluster.boot import cloud_of
from cluster.cluster_file import groups_of, live_document
from cluster.group_record import GroupRecord, check_spec, new_record, with_records
from cluster.machine_types import list_types
from simyard.errors import InvalidInput
from simyard.group import GroupSpec, Market
from simyard.resources import GIB

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "cluster.yaml").read_text())
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(name: str = "crash", **changes: Any) -> GroupRecord:
    types = {"machine_types": ("c7i.4xlarge", "m7i.2xlarge"), "max": 5}
    return new_record(GroupSpec.model_validate({"name": name} | types | changes), "ada", NOW)


def added(document: dict[str, Any]) -> dict[str, Any]:
    types: dict[str, Any] = document["available_node_types"]
    return {name: one for name, one in types.items() if name not in DOCUMENT["available_node_types"]}


def test_a_group_is_a_node_type_for_each_machine_type_and_market_in_their_order() -> None:
    made = record(market="spot-then-on-demand", idle=90, disk="100GiB", ends_at="2030-01-01T00:00:00Z")
    document = with_records(DOCUMENT, [made])
    [group] = [one for one in groups_of(document) if one.name == "crash"]
    assert [(one.machine_type, one.market) for one in group.types] == [
        ("c7i.4xlarge", Market.SPOT),
        ("c7i.4xlarge", Market.ON_DEMAND),
        ("m7i.2xlarge", Market.SPOT),
        ("m7i.2xlarge", Market.ON_DEMAND),
    ]
    assert (group.least, group.most) == (0, 5)
    assert (group.shape.cpus, group.shape.gpus) == (8, 0), "what the smallest of them offers"
    for name, one in added(document).items():
        assert len(name) <= 63
        assert one["idle_timeout_s"] == 90
        assert one["node_config"]["ImageId"] == DOCUMENT["available_node_types"]["local"]["node_config"]["ImageId"]
        [disk] = one["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"] == {"VolumeSize": 100, "VolumeType": "gp3", "Encrypted": True}
    live = live_document(document, {group.types[0].name: 2}, "10.0.0.1:6379", {}, Path("/launches.json"))
    assert [one["min_workers"] for one in added(live).values()] == [2, 0, 0, 0]
    validate_config(fillout_defaults(copy.deepcopy(live)))
    assert yaml.safe_load((Path(__file__).parents[3] / "cluster.yaml").read_text()) == DOCUMENT


def test_a_group_with_a_long_name_has_names_that_ray_takes_as_labels() -> None:
    for name in added(with_records(DOCUMENT, [record("n" * 63, machine_types=("c7i.metal-48xl",))])):
        assert len(name) <= 63


def test_a_drained_group_may_have_no_machine_and_an_ended_one_keeps_its_node_types() -> None:
    going = record(count=3, max=None)
    drained = going.model_copy(update={"ending_since": NOW, "drained_at": NOW})
    ended = drained.model_copy(update={"ended_at": NOW})
    [group] = [one for one in groups_of(with_records(DOCUMENT, [going])) if one.name == "crash"]
    assert (group.least, group.most) == (3, 3)
    [group] = [one for one in groups_of(with_records(DOCUMENT, [drained])) if one.name == "crash"]
    assert (group.least, group.most) == (0, 0)
    document = with_records(DOCUMENT, [ended, record()])
    [group] = [one for one in groups_of(document) if one.name == "crash"]
    assert (group.least, group.most) == (0, 5)
    live = live_document(document, {}, "10.0.0.1:6379", {}, Path("/launches.json"))
    assert [one["max_workers"] for one in added(live).values()] == [0, 0, 5, 5]
    validate_config(fillout_defaults(copy.deepcopy(live)))


def test_a_machine_of_a_group_that_ends_knows_when() -> None:
    document = with_records(DOCUMENT, [record(ends_at="2030-01-01T00:00:00Z")])
    assert document["metadata"]["simyard"]["groups"]["crash"]["ends_at"] == "2030-01-01T00:00:00+00:00"


GOOGLE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "cluster" / "launch" / "gcp.yaml").read_text())


def test_a_group_on_google_cloud_has_its_words_disks_and_labels() -> None:
    made = record(
        "crash", machine_types=("c4-standard-8", "g2-standard-24"), market="spot-then-on-demand", disk="200GB"
    )
    document = with_records(GOOGLE, [made])
    check_spec(made.spec, GOOGLE, list_types(), [], NOW)
    [group] = [one for one in groups_of(document) if one.name == "crash"]
    assert [(one.machine_type, one.market, one.shape.cpus, one.shape.gpus) for one in group.types] == [
        ("c4-standard-8", Market.SPOT, 8, 0),
        ("c4-standard-8", Market.ON_DEMAND, 8, 0),
        ("g2-standard-24", Market.SPOT, 24, 2),
        ("g2-standard-24", Market.ON_DEMAND, 24, 2),
    ]
    live = live_document(document, {}, "10.0.0.1:6379", {"SIMYARD_SERVER": "5e1f"}, Path("/launches.json"))
    validate_config(fillout_defaults(copy.deepcopy(live)))
    by_name = {
        name.partition("-")[2].partition("-")[2]: one["node_config"]
        for name, one in live["available_node_types"].items()
        if name.startswith("crash-")
    }
    for name, config in by_name.items():
        assert config["labels"] == {"simyard-group": "crash", "simyard-generation": "5e1f"}
        [disk] = config["disks"]
        kind = "hyperdisk-balanced" if name.startswith("c4") else "pd-balanced"
        assert disk["initializeParams"]["diskType"] == f"zones/europe-west4-a/diskTypes/{kind}"
        assert disk["initializeParams"]["diskSizeGb"] == 187, "GiB, and not less than was asked for"
        assert disk["initializeParams"]["sourceImage"].endswith("family/simyard")
        assert config["serviceAccounts"][0]["email"].startswith("simyard-machine@")
    stops = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    spot = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"} | stops
    assert by_name["c4-standard-8-spot"]["scheduling"] == spot
    assert "scheduling" not in by_name["c4-standard-8-on-demand"], "it is moved to another host, and goes on"
    assert by_name["g2-standard-24-on-demand"]["scheduling"] == stops, "machines with GPUs cannot be moved"
    assert yaml.safe_load(yaml.safe_dump(GOOGLE)) == GOOGLE


def test_what_a_cloud_has_not_is_refused_with_what_it_has() -> None:
    for spec, document, field, fix in (
        (record("crash", machine_types=("c7i.large",)).spec, GOOGLE, "machine_types.0", "simyard machines types"),
        (record("crash", machine_types=("c3-standard-23",)).spec, GOOGLE, "machine_types.0", "c3-standard-22"),
        (record("Crash.1", machine_types=("c3-standard-22",)).spec, GOOGLE, "name", "lower-case"),
        (
            record("crash", machine_types=("c3-standard-22",)).spec,
            DOCUMENT,
            "machine_types.0",
            "simyard machines types",
        ),
    ):
        with pytest.raises(InvalidInput) as refused:
            check_spec(spec, document, list_types(), [], NOW)
        assert refused.value.field == field
        assert fix in str(refused.value.fix)


def test_a_group_on_azure_would_have_its_words() -> None:
    document: dict[str, Any] = yaml.safe_load(
        (Path(__file__).parents[3] / "cluster" / "launch" / "azure.yaml").read_text()
    )
    _, azure = cloud_of("local", document["available_node_types"]["local"]["node_config"])
    config = document["available_node_types"]["local"]["node_config"]
    made = azure.tagged(
        azure.with_disk(azure.bought(config, "Standard_F8s_v2", Market.SPOT), 300), {"simyard-group": "a"}
    )
    assert (azure.machine_type(made), azure.market(made)) == ("Standard_F8s_v2", Market.SPOT)
    assert made["tags"] == {"simyard-group": "a"}
    assert 200 * GIB < azure.disk(made) < 300 * GIB
    assert azure.market(azure.bought(made, "Standard_F8s_v2", Market.ON_DEMAND)) is Market.ON_DEMAND
