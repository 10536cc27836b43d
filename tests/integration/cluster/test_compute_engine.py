"""Machines of Google Cloud: Ray's own provider and ours, with Google's own clients, before an emulator of its APIs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cluster_file import groups_of, live_document
from cluster.errors import ProviderFailed
from cluster.gcp import Gcp
from cluster.group_record import new_record, with_records
from cluster.labels import LAUNCHES
from cluster.launches import read_troubles
from cluster.provider import Kind
from simyard.group import GroupSpec, Market
from tests.cloud.compute_engine import ComputeEngine, Google, GoogleFault, lead_to, running_google
from tests.integration.cluster.launching import launch, ours

FILE = Path(__file__).parents[3] / "cluster" / "launch" / "gcp.yaml"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
BIG = GroupSpec(name="big", machine_types=("c4-standard-8", "c3-standard-4"), max=20, market=Market.SPOT_THEN_ON_DEMAND)


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    with running_google(ComputeEngine(), tmp_path) as google:
        lead_to(google, monkeypatch)
        yield google


def document(tmp_path: Path, *specs: GroupSpec) -> dict[str, Any]:
    """Return the shipped file with groups of commands, as the autoscaler reads it on a head."""
    found = yaml.safe_load(FILE.read_text())
    made = with_records(found, [new_record(spec, "ada", NOW) for spec in specs])
    environment = {"SIMYARD_SERVER": "5e1f", "RAY_AUTH_TOKEN": "abc"}
    return live_document(made, {}, "10.0.0.1:6379", environment, tmp_path / "launches.json")


def test_machines_of_every_node_type_are_started_and_told_with_their_groups(google: Google, tmp_path: Path) -> None:
    told = document(tmp_path, BIG)
    ray = Gcp(told["provider"], told["cluster_name"])
    names = {name: launch(ray, told, name) for name in told["available_node_types"]}
    assert len(names) == 5 + 4
    found = {one.node_type: one for one in ours(told).list()}
    assert found.keys() == names.keys()
    assert found["head"].kind is Kind.HEAD
    groups = {one.name: (group.name, one) for group in groups_of(told) for one in group.types}
    for name, one in found.items():
        assert one.id in names[name]
        assert (one.cluster, one.zone, one.is_ending) == ("simyard", "europe-west4-a", False)
        assert abs(datetime.now(UTC) - one.launched_at) < timedelta(minutes=1)
        if name != "head":
            group, node_type = groups[name]
            assert (one.kind, one.group, one.generation) == (Kind.WORKER, group, "5e1f")
            assert (one.machine_type, one.market) == (node_type.machine_type, node_type.market)
    disks = {
        name.rpartition("/")[2]: [disk["initializeParams"]["diskType"].rpartition("/")[2] for disk in one["disks"]]
        for one in google.engine.instances.values()
        for name in [one["machineType"]]
    }
    assert disks["c4-standard-8"] == ["hyperdisk-balanced"]
    assert disks["c3-standard-4"] == ["pd-balanced"]
    scripts = [one["metadata"].get("items", []) for one in google.engine.instances.values()]
    assert sum(len(items) for items in scripts) == 8, "all boot the script but the head"


def test_what_ends_is_ending_and_then_gone_and_ending_it_again_is_no_error(google: Google, tmp_path: Path) -> None:
    google.engine._seconds = 0.3
    told = document(tmp_path)
    [name] = launch(Gcp(told["provider"], told["cluster_name"]), told, "local")
    provider = ours(told)
    provider.end([name])
    [one] = provider.list()
    assert (one.is_ending, one.is_left_over) == (True, False)
    deadline = time.monotonic() + 20
    while provider.list():
        assert time.monotonic() < deadline
    provider.end([name, "another-one"])


def test_one_that_switched_itself_off_is_left_over_and_can_be_ended(google: Google, tmp_path: Path) -> None:
    told = document(tmp_path)
    ray = Gcp(told["provider"], told["cluster_name"])
    [name] = launch(ray, told, "local-spot")
    google.engine.stop(name)
    assert ray.non_terminated_nodes({}) == [], "Ray does not see it any more"
    provider = ours(told)
    [one] = provider.list()
    assert (one.id, one.is_ending, one.is_left_over, one.market) == (name, True, True, "spot")
    assert one.ended_at is not None
    assert abs(datetime.now(UTC) - one.ended_at) < timedelta(minutes=1)
    provider.end([name])
    assert provider.list() == ()


def test_long_lists_come_whole_and_machines_of_others_do_not_count(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.compute_engine._PAGE", 3)
    told = document(tmp_path)
    ray = Gcp(told["provider"], told["cluster_name"])
    made = [name for _ in range(8) for name in launch(ray, told, "local")]
    theirs = Gcp(told["provider"], "another")
    launch(theirs, told | {"cluster_name": "another"}, "local")
    assert sorted(one.id for one in ours(told).list()) == sorted(made)
    assert len(google.engine.instances) == 9


@pytest.mark.parametrize(
    ("fault", "times", "word"),
    [
        (GoogleFault.NOT_ALLOWED, 1, "permission is missing"),
        (GoogleFault.BROKEN, 9, "unavailable"),
        (GoogleFault.LIST_PARTIAL, 1, "did not tell of all"),
        (GoogleFault.ANSWER_LOST, 9, "Google Cloud did not list"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: GoogleFault, times: int, word: str
) -> None:
    monkeypatch.setattr("cluster.compute_engine._RETRIES", 1)
    told = document(tmp_path)
    launch(Gcp(told["provider"], told["cluster_name"]), told, "local")
    google.engine.inject(fault, "list", times)
    provider = ours(told)
    with pytest.raises(ProviderFailed, match=word) as failed:
        provider.list()
    assert "roles/compute.instanceAdmin.v1" in str(failed.value.fix)
    google.engine.orders.clear()
    assert len(provider.list()) == 1


def test_an_error_that_passes_is_tried_again(google: Google, tmp_path: Path) -> None:
    told = document(tmp_path)
    google.engine.inject(GoogleFault.BROKEN, "list", 1)
    assert ours(told).list() == ()


def test_without_credentials_it_is_said_how_to_give_them(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ProviderFailed) as failed:
        ours(document(tmp_path)).list()
    assert "serviceAccounts" in str(failed.value.fix)


@pytest.mark.parametrize(
    "fault",
    [
        GoogleFault.NO_CAPACITY,
        GoogleFault.NO_QUOTA,
        GoogleFault.QUOTA_AT_ONCE,
        GoogleFault.NOT_ALLOWED,
        GoogleFault.NO_IMAGE,
    ],
)
def test_why_a_machine_cannot_be_had_is_noted_in_googles_words(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: GoogleFault
) -> None:
    monkeypatch.setattr("ray.autoscaler._private.gcp.node.POLL_INTERVAL", 0.05)
    told = document(tmp_path)
    ray = Gcp(told["provider"], told["cluster_name"])
    google.engine.inject(fault, "insert")
    with pytest.raises(Exception):  # noqa: B017 - Ray raises whatever Google's client does
        launch(ray, told, "gpu")
    noted = read_troubles(Path(told["provider"][LAUNCHES]))["gpu"]
    assert (noted.code, noted.count) == (fault.value, 1)
    assert "Look at the node type" not in noted.fix, "there is a fix of its own"
    calls = len(google.engine.calls)
    with pytest.raises(Exception, match="Waits"):
        launch(ray, told, "gpu")
    assert len(google.engine.calls) == calls, "Google is not asked again at once"
    assert google.engine.instances == {}


def test_the_machines_of_an_mpi_group_come_by_one_request_or_not_at_all(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = document(tmp_path, GroupSpec(name="mpi", machine_types=("c3-standard-22",), count=3, mpi=True))
    ray = Gcp(told["provider"], told["cluster_name"])
    [node_type] = [name for name in told["available_node_types"] if name.startswith("mpi-")]

    def all_three() -> list[Exception]:
        raised: list[Exception] = []

        def one(number: int) -> None:
            try:
                launch(ray, told, node_type, request="7")
            except Exception as error:  # noqa: BLE001 - what it is looks the test at
                raised.append(error)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return raised

    google.engine.inject(GoogleFault.NO_CAPACITY, "bulk_insert")
    assert len(all_three()) == 3
    assert google.engine.instances == {}
    Path(told["provider"][LAUNCHES]).unlink()
    ray = Gcp(told["provider"], told["cluster_name"])
    assert all_three() == []
    assert sum(action == "bulk_insert" for _, action in google.engine.calls) == 2
    assert "insert" not in {action for _, action in google.engine.calls}
    found = ours(told).list()
    assert [(one.group, one.machine_type, one.generation) for one in found] == [("mpi", "c3-standard-22", "5e1f")] * 3
    assert sorted(ray.non_terminated_nodes({"ray-launch-request": "7"})) == sorted(one.id for one in found)


def test_machines_do_not_wait_for_one_another(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.autoscaler._private.gcp.node.GCPCompute.wait_for_operation.__defaults__", (12, 0.2))
    google.engine._seconds = 3.0
    told = document(tmp_path)
    ray = Gcp(told["provider"], told["cluster_name"])
    threads = [threading.Thread(target=launch, args=(ray, told, "local")) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    asked = [at for at, action in google.engine.calls if action == "insert"]
    assert len(asked) == len(google.engine.instances) == 10
    assert max(asked) - min(asked) < 3.0, "all were asked for before the first one was there"
    json.dumps(google.engine.instances)
