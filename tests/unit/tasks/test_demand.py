"""What the machine groups of a cluster are asked for, and the file that says so."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster.cluster_file import ClusterFile
from cluster.fleet import Demand, Room
from simyard.group import MachineGroup, Offer
from simyard.resources import GIB, Resources
from simyard.simulator import RuntimeName
from tasks import demand as module
from tasks.demand import demands
from tasks.fleet import Fleet
from tasks.lifecycle import Dispatch, Hold
from tasks.memory import MemoryStore
from tasks.placement import Holder, Host, Kind
from tasks.prices import Prices, Sold
from tasks.rules import Pause, Quota
from tasks.shares import Shares
from tests.unit.tasks.samples import NOW
from tests.unit.tasks.store_suite import make

NEED = Resources(cpus=2, memory=1 * GIB)
KIND = Kind(simulator="swmm", version="1", runtime=RuntimeName.NATIVE, resources=NEED)
HOST = Host(id="h1", name="one", group="local", cpus=4, memory=8 * GIB, gpus=0)
DOCUMENT = Path(__file__).parents[3] / "cluster.yaml"


def asked(store: MemoryStore, *holders: Holder) -> dict[str, Demand]:
    return demands(store, [HOST], holders, Shares(), NOW)


def holder(idle: float | None) -> Holder:
    return Holder(name="a", host="h1", kind=KIND, idle_since=idle)


def test_machines_count_with_what_they_have_left_and_idle_actors_make_room() -> None:
    store = MemoryStore()
    assert asked(store, holder(None))["local"].rooms == (Room(cpus=2, memory=7 * GIB, is_busy=True),)
    assert asked(store, holder(3.0))["local"].rooms == (Room(cpus=4, memory=8 * GIB),)


def test_a_machine_whose_run_is_still_to_be_taken_over_is_kept() -> None:
    store = MemoryStore()
    task = make(store, resources=NEED).id
    store.apply(task, Dispatch(HOST.name, "gone", RuntimeName.NATIVE, NOW), NOW)
    assert asked(store)["local"].rooms == (Room(cpus=4, memory=8 * GIB, is_busy=True),)


def test_the_images_that_waiting_tasks_run_in_are_told_once() -> None:
    store = MemoryStore()
    for runtime in (RuntimeName.PODMAN, RuntimeName.PODMAN, RuntimeName.NATIVE):
        make(store, resources=NEED, runtime=runtime)
    make(store, group="gpu", resources=NEED, runtime=RuntimeName.NATIVE)
    found = asked(store)
    assert [(one.simulator, one.runtime) for one in found["local"].images] == [("swmm", "podman")]
    assert found["gpu"].images == frozenset()


def test_queued_tasks_ask_for_their_group_and_what_is_kept_back_asks_for_nothing() -> None:
    store = MemoryStore()
    for _ in range(3):
        make(store, resources=NEED)
    make(store, user="bob", group="gpu", resources=NEED)
    held = make(store, resources=NEED).id
    store.apply(held, Hold(), NOW)
    found = asked(store)
    assert found["local"].waiting == (NEED,) * 3
    assert (found["gpu"].waiting, found["gpu"].rooms) == ((NEED,), ())
    store.pause(Pause(group="gpu"))
    store.set_quota(Quota(user="ada", running=2))
    found = asked(store)
    assert "gpu" not in found
    assert (found["local"].waiting, found["local"].waiting_count) == ((NEED,) * 2, 2)


def test_what_would_cost_more_than_a_quota_asks_for_no_machine() -> None:
    store = MemoryStore()
    for _ in range(3):
        make(store, group="gpu", resources=NEED)
    sold = Sold(group="gpu", offers=Room(cpus=NEED.cpus, memory=64 * GIB), usd_per_hour=1.0)
    prices = Prices(machines={"gpu": sold})
    store.set_quota(Quota(user="ada", usd_per_hour=2.5))
    assert demands(store, [], [], Shares(), NOW, prices=prices)["gpu"].waiting == (NEED,) * 2
    store.set_quota(Quota(user="ada", usd_per_month=0))
    assert demands(store, [], [], Shares(), NOW, prices=prices) == {}


def test_of_a_long_queue_only_the_number_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOKED_AT", 4)
    store = MemoryStore()
    for _ in range(10):
        make(store, resources=NEED)
    found = asked(store)["local"]
    assert (len(found.waiting), found.waiting_count) == (4, 10)
    store.set_quota(Quota(user="ada", running=3))
    found = asked(store)["local"]
    assert (len(found.waiting), found.waiting_count) == (3, 3), "the quota keeps the others back"


def test_the_file_follows_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text(DOCUMENT.read_text())
    fleet = Fleet(ClusterFile(path, tmp_path / "kept.yaml"), MemoryStore(), "10.0.0.1:6379", {})

    def least() -> int:
        found: int = yaml.safe_load(path.read_text())["available_node_types"]["local"]["min_workers"]
        return found

    def look(*waiting: Resources) -> None:
        fleet.look(lambda: {"local": Demand(waiting=waiting, waiting_count=len(waiting))})

    look(*[Resources(cpus=16, memory=1 * GIB)] * 3)
    assert least() == 3
    look()
    assert least() == 0
    path.write_text("broken: [")
    look()
    assert path.read_text() == "broken: [", "what cannot be read is left as it is"


def test_a_declared_group_is_there_before_its_first_machine(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text(DOCUMENT.read_text())
    fleet = Fleet(ClusterFile(path, tmp_path / "kept.yaml"), MemoryStore(), "10.0.0.1:6379", {})
    fleet.look(dict)
    own = MachineGroup(name="own")
    found = {group.name: group for group in fleet.groups([own])}
    assert found["own"] == own
    gpu = found["gpu"]
    assert (gpu.machines, gpu.machine_type, gpu.min, gpu.max) == ((), "g6.4xlarge", 0, 4)
    assert isinstance(gpu.offers, Offer)
    assert (gpu.offers.cpus, gpu.offers.gpus) == (16, 1)


def test_a_group_is_known_by_the_disk_that_its_machines_have_and_not_by_what_was_ordered(tmp_path: Path) -> None:
    store = MemoryStore()
    found = demands(store, [HOST, replace(HOST, id="h2", disk=7 * GIB)], [], Shares(), NOW)["local"]
    assert (found.disk, [room.disk for room in found.rooms]) == (math.inf, [math.inf, 7 * GIB])
    path = tmp_path / "live.yaml"
    path.write_text(DOCUMENT.read_text())
    fleet = Fleet(ClusterFile(path, tmp_path / "kept.yaml"), MemoryStore(), "10.0.0.1:6379", {})

    def look(demand: Demand) -> tuple[int, int | None]:
        fleet.look(lambda: {"local": demand})
        [local] = [group for group in fleet.groups([]) if group.name == "local"]
        least: int = yaml.safe_load(path.read_text())["available_node_types"]["local"]["min_workers"]
        assert local.offers is not None
        return least, local.offers.disk

    large = Demand(waiting=(Resources(disk=80 * GIB),), waiting_count=1)
    assert look(large) == (1, 90 * GIB)
    there = Room(cpus=16, memory=24 * GIB, disk=70 * GIB)
    assert look(replace(large, rooms=(there,), disk=70 * GIB)) == (0, 70 * GIB)
    assert look(large) == (0, 70 * GIB), "no machine is started in vain again and again"


def test_a_whole_machine_counts_for_a_quota_with_what_it_has() -> None:
    store = MemoryStore()
    make(store, resources=Resources(whole_machine=True))
    assert len(asked(store)["local"].waiting) == 1
    store.set_quota(Quota(user="ada", cpus=3))
    found = demands(store, [HOST], [], Shares(), NOW, {"local": HOST})
    assert found["local"].waiting == ()
