"""Machines of Azure: Ray's own provider and ours, with Azure's own clients, before an emulator of its APIs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure.core.exceptions import HttpResponseError
from typer.testing import CliRunner, Result

from cluster.azure import Azure
from cluster.clouds import Azure as Metadata
from cluster.cluster_file import check_document, groups_of, live_document
from cluster.errors import ProviderFailed
from cluster.group_record import check_spec, new_record, with_records
from cluster.labels import LAUNCHES
from cluster.launches import read_troubles
from cluster.machine_types import catalogue_file, find_type, list_types
from cluster.provider import Kind
from cluster.quotes import Quotes
from simyard.cli.app import build
from simyard.errors import InvalidInput
from simyard.group import GroupSpec, Market
from storage.settings import load_settings
from tests.cloud.resource_manager import (
    GROUP,
    LOCATION,
    SUBSCRIPTION,
    AzureFault,
    ResourceManager,
    price,
    running_azure,
)
from tests.integration.cluster.launching import launch, ours
from tests.integration.cluster.test_clouds import serving
from tests.running_server import until

FILE = Path(__file__).parents[3] / "cluster" / "launch" / "azure.yaml"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
BIG = GroupSpec(
    name="big", machine_types=("Standard_D8s_v5", "Standard_F8s_v2"), max=20, market=Market.SPOT_THEN_ON_DEMAND
)


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ResourceManager]:
    manager = ResourceManager()
    # It asks which cloud it runs on, at addresses that nobody has here.
    monkeypatch.setattr("ray.autoscaler._private._azure.node_provider.get_cloud_from_metadata_requests", lambda: "none")
    with running_azure(manager, tmp_path, monkeypatch):
        yield manager


def document(tmp_path: Path, *specs: GroupSpec) -> dict[str, Any]:
    """Return the shipped file with groups of commands, as the autoscaler reads it on a head that Ray has launched."""
    found = yaml.safe_load(FILE.read_text())
    place = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
    found["provider"] |= {
        "subscription_id": SUBSCRIPTION,
        "unique_id": "1a2b",
        "msi": f"{place}/Microsoft.ManagedIdentity/userAssignedIdentities/ray-msi",
        "nsg": f"{place}/Microsoft.Network/networkSecurityGroups/ray-nsg",
        "subnet": f"{place}/Microsoft.Network/virtualNetworks/ray-vnet/subnets/ray-subnet",
    }
    for one in found["available_node_types"].values():
        one["node_config"]["azure_arm_parameters"] |= {"adminUsername": "simyard", "publicKey": "ssh-ed25519 AAAA"}
    made = with_records(found, [new_record(spec, "ada", NOW) for spec in specs])
    environment = {"SIMYARD_SERVER": "5e1f", "RAY_AUTH_TOKEN": "abc"}
    return live_document(made, {}, "10.0.0.1:6379", environment, tmp_path / "launches.json")


def rays(told: dict[str, Any]) -> Azure:
    return Azure(told["provider"], told["cluster_name"])


def test_machines_of_every_node_type_are_started_and_told_with_their_groups(
    azure: ResourceManager, tmp_path: Path
) -> None:
    told = document(tmp_path, BIG)
    ray = rays(told)
    for name in told["available_node_types"]:
        launch(ray, told, name)
    found = {one.node_type: one for one in ours(told).list()}
    assert found.keys() == told["available_node_types"].keys()
    assert len(found) == 5 + 4
    assert found["head"].kind is Kind.HEAD
    groups = {one.name: (group.name, one) for group in groups_of(told) for one in group.types}
    for name, one in found.items():
        assert (one.cluster, one.is_ending, one.is_left_over) == ("simyard", False, False)
        assert abs(datetime.now(UTC) - one.launched_at) < timedelta(minutes=1)
        if name != "head":
            group, node_type = groups[name]
            assert (one.kind, one.group, one.generation) == (Kind.WORKER, group, "5e1f")
            assert (one.machine_type, one.market) == (node_type.machine_type, node_type.market)
    assert sorted(ray.non_terminated_nodes({})) == sorted(one.id for one in found.values())
    scripts = [one["properties"]["osProfile"].get("customData") for one in azure.machines.values()]
    booted = [base64.b64decode(one).decode() for one in scripts if one]
    assert len(booted) == 8, "all boot the script but the head"
    assert all("cluster.join" in one for one in booted)
    disks = [one["properties"]["storageProfile"]["osDisk"] for one in azure.machines.values()]
    assert {one["managedDisk"]["storageAccountType"] for one in disks} == {"StandardSSD_LRS"}


def test_ray_finds_ends_and_tags_what_it_has_started(azure: ResourceManager, tmp_path: Path) -> None:
    told = document(tmp_path)
    ray = rays(told)
    launch(ray, told, "local", 3)
    first, *others = ray.non_terminated_nodes({"ray-user-node-type": "local"})
    assert len(others) == 2
    assert ray.is_running(first)
    assert ray.internal_ip(first).startswith("10.0.0.")
    ray.set_node_tags(first, {"ray-node-status": "up-to-date"})
    assert ray.node_tags(first)["ray-node-status"] == "up-to-date"
    ray.terminate_node(first)
    until(lambda: first not in azure.machines, 20, what="its end")
    until(lambda: ray.non_terminated_nodes({}) == others, 20, what="Ray's word of it")
    until(lambda: len(azure.disks) == len(azure.networks) == 2, 20, what="the end of disk and interface")


def test_what_we_end_takes_its_disk_and_its_addresses_along(azure: ResourceManager, tmp_path: Path) -> None:
    told = document(tmp_path)
    told["provider"]["use_internal_ips"] = False
    launch(rays(told), told, "local-spot", 2)
    assert (len(azure.disks), len(azure.networks), len(azure.addresses)) == (2, 2, 2)
    provider = ours(told)
    first, second = sorted(one.id for one in provider.list())
    provider.end([first, "another-one"])
    assert [one.id for one in provider.list()] == [second]
    provider.end([first, second])
    assert provider.list() == ()
    assert (azure.disks, azure.networks, azure.addresses) == (set(), {}, set())


def test_one_that_has_switched_itself_off_is_paid_for_and_so_it_is_there(
    azure: ResourceManager, tmp_path: Path
) -> None:
    told = document(tmp_path)
    launch(rays(told), told, "local")
    [one] = ours(told).list()
    azure.stop(one.id)
    assert ours(told).list() == (one,), "the reconciler ends what Ray does not know"


def test_long_lists_come_whole_and_machines_of_others_do_not_count(azure: ResourceManager, tmp_path: Path) -> None:
    azure.page = 3
    told = document(tmp_path)
    launch(rays(told), told, "local", 8)
    launch(rays(told | {"cluster_name": "another"}), told | {"cluster_name": "another"}, "local")
    assert len(azure.machines) == 9
    assert len(ours(told).list()) == 8


@pytest.mark.parametrize(
    ("fault", "times", "word", "fix"),
    [
        (AzureFault.NOT_ALLOWED, 1, "does not have authorization", "Contributor"),
        (AzureFault.BROKEN, 9, "internal server error", "Contributor"),
        (AzureFault.ANSWER_LOST, 9, "Azure did not list", "Contributor"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(
    azure: ResourceManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: AzureFault,
    times: int,
    word: str,
    fix: str,
) -> None:
    monkeypatch.setattr("cluster.virtual_machines._RETRIES", 1)
    told = document(tmp_path)
    launch(rays(told), told, "local")
    azure.inject(fault, "list", times)
    with pytest.raises(ProviderFailed, match=word) as failed:
        ours(told).list()
    assert fix in str(failed.value.fix)
    azure.orders.clear()
    assert len(ours(told).list()) == 1


def test_without_credentials_it_says_how_to_give_them(
    azure: ResourceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = document(tmp_path)
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    with pytest.raises(ProviderFailed) as failed:
        ours(told).list()
    assert "managed identity" in str(failed.value.fix)


@pytest.mark.parametrize("fault", [AzureFault.NO_CAPACITY, AzureFault.NO_QUOTA])
def test_why_a_machine_cannot_be_started_is_told_in_azures_words(
    azure: ResourceManager, tmp_path: Path, fault: AzureFault
) -> None:
    told = document(tmp_path, BIG)
    ray = rays(told)
    azure.inject(fault, "deploy")
    with pytest.raises(HttpResponseError, match="DeploymentFailed"):
        launch(ray, told, "local")
    [trouble] = read_troubles(Path(told["provider"][LAUNCHES])).values()
    assert (trouble.code, trouble.message) == (fault.value, f"a test has asked for it: {fault.name}")


@pytest.mark.parametrize("is_inside", [True, False])
def test_machines_come_all_or_none_and_nothing_is_left_of_a_failed_launch(
    azure: ResourceManager, tmp_path: Path, *, is_inside: bool
) -> None:
    told = document(tmp_path)
    told["provider"]["use_internal_ips"] = is_inside
    azure.inject(AzureFault.NO_CAPACITY, "deploy")
    with pytest.raises(HttpResponseError):
        launch(rays(told), told, "local", 4)
    assert azure.calls.count("deploy") == 1
    assert (azure.machines, azure.disks, azure.networks, azure.addresses) == ({}, set(), {}, set())


def test_where_that_cannot_be_deleted_the_reason_of_the_failure_is_told(azure: ResourceManager, tmp_path: Path) -> None:
    told = document(tmp_path)
    azure.inject(AzureFault.NO_CAPACITY, "deploy")
    azure.inject(AzureFault.NOT_ALLOWED, "delete", 4)
    with pytest.raises(HttpResponseError, match="DeploymentFailed"):
        launch(rays(told), told, "local", 4)
    assert len(azure.machines) == 3, "which the reconciler ends"


def test_a_launch_does_not_look_through_all_sizes_of_all_regions(azure: ResourceManager, tmp_path: Path) -> None:
    told = document(tmp_path)
    launch(rays(told), told, "local")
    assert "skus" not in azure.calls, "that is tens of megabytes"
    assert [one.zone for one in ours(told).list()] == [LOCATION]


def test_a_machine_deletes_itself_with_the_rights_of_its_identity(
    azure: ResourceManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = document(tmp_path)
    launch(rays(told), told, "local")
    [(name, one)] = azure.machines.items()
    place = "/metadata/instance/compute/resourceId?api-version=2021-02-01&format=text"
    token = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com/"
    says = {place: one["id"], token: json.dumps({"access_token": "stolen"})}
    with serving(says, ("Metadata", "true"), 400) as service:
        cloud = Metadata(service.url)
        cloud.give_back()
        assert "401" in caplog.text
        assert name in azure.machines
        says[token] = json.dumps({"access_token": azure.new_token()})
        cloud.give_back()
    assert (azure.machines, azure.disks) == ({}, set())
    Metadata("http://127.0.0.1:9").give_back()


def test_a_group_can_be_asked_for_of_what_azure_sells(tmp_path: Path) -> None:
    told = document(tmp_path)
    types = list_types()
    check_spec(BIG, told, types, ["local"], NOW)
    with pytest.raises(InvalidInput) as refused:
        check_spec(BIG.model_copy(update={"machine_types": ("Standard_D8_v5",)}), told, types, [], NOW)
    assert "Standard_D8s_v5" in str(refused.value.fix)
    [group] = [one for one in groups_of(document(tmp_path, BIG)) if one.name == "big"]
    assert {one.machine_type for one in group.types} == set(BIG.machine_types)
    assert all(one.shape.cpus == 8 for one in group.types)


def test_what_the_shipped_file_says_is_enough_for_a_head(tmp_path: Path) -> None:
    check_document(document(tmp_path))


# Prices.

F16 = "Standard_F16s_v2"
PRICES = [
    price(F16, 0.776),
    price(F16, 0.155, kind="Spot"),
    price(F16, 0.31, kind="Low Priority"),
    price(F16, 1.512, product="FSv2 Series Windows"),
    price(F16, 0.302, kind="Spot", product="FSv2 Series Windows"),
    price(F16, 9, product="FSv2 Series Cloud Services"),
    price(F16, 0.677, region="eastus"),
    price("Standard_D4s_v5", 0.23),
    price("Standard_ND96isr_H100_v5", 98.3),
]


@pytest.fixture
def data_dir(azure: ResourceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    azure.prices, azure.page = PRICES, 2
    monkeypatch.setenv("SIMYARD_DATA_DIR", str(tmp_path))
    load_settings.cache_clear()
    yield tmp_path
    load_settings.cache_clear()


def refresh(*arguments: str) -> Result:
    return CliRunner().invoke(build(["admin"]), ["admin", "machine-types", "refresh", *arguments])


def test_prices_are_those_of_machines_without_windows_on_demand_and_as_spot(data_dir: Path) -> None:
    result = refresh("--region", LOCATION, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"region": LOCATION, "types": 2, "with_price": 2}
    types = list_types(catalogue_file(data_dir))
    assert len(types) == len(list_types())
    large, small = (find_type(name, types).price(LOCATION) for name in (F16, "Standard_D4s_v5"))
    assert large is not None
    assert (large.on_demand, large.spot) == (0.776, 0.155)
    assert small is not None
    assert (small.on_demand, small.spot) == (0.23, None)


def test_a_head_on_azure_asks_for_the_prices_of_its_location(data_dir: Path, tmp_path: Path) -> None:
    quotes = Quotes(lambda: document(tmp_path), catalogue_file(data_dir))
    assert {one.name for one in quotes.look()} == {F16, "Standard_D4s_v5"}
    assert quotes.look() == []


def test_a_region_that_azure_does_not_have_is_refused(data_dir: Path) -> None:
    result = refresh("--region", "marsnorth")
    assert result.exit_code == 2
    assert "marsnorth has none of these types" in result.output
    assert not catalogue_file(data_dir).exists()
