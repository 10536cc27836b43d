"""The fleet over a real file and a store in memory: sizes, troubles and groups that come to their end."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cluster_file import ClusterFile
from cluster.fleet import Demand, Room
from cluster.group_record import GroupRecord, new_record
from cluster.labels import TOGETHER
from cluster.launches import Trouble
from simulators.wanted_images import WantedImage, wanted
from simyard.group import GroupSpec, GroupState, MachineGroup
from simyard.resources import GIB, Resources
from storage.errors import StorageUnavailable
from storage.memory import MemoryStore as MemoryObjects
from storage.paths import Paths
from tasks.fleet import Fleet
from tasks.memory import MemoryStore
from tasks.rules import Pause
from tests.unit.tasks.samples import NOW, dispatch, draft

FILE = Path(__file__).parents[3] / "cluster.yaml"


class Yard:
    """A cluster file, a store and a clock, and the fleet over them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "live.yaml"
        self.path.write_text(FILE.read_text())
        self.file = ClusterFile(self.path, folder / "kept.yaml")
        self.store, self.now = MemoryStore(), NOW
        self.fleet = Fleet(self.file, self.store, "10.0.0.1:6379", {}, lambda: self.now)

    def make(self, **changes: Any) -> GroupRecord:
        spec = GroupSpec.model_validate({"name": "crash", "machine_types": ["c7i.large"], "max": 5} | changes)
        record = new_record(spec, "ada", self.now)
        self.store.put_group(record)
        return record

    def look(self, **demands: Demand) -> None:
        self.fleet.look(lambda: demands)

    def sizes(self) -> dict[str, tuple[int, int]]:
        types = yaml.safe_load(self.path.read_text())["available_node_types"]
        return {
            name.split("-", 2)[2]: (one["min_workers"], one["max_workers"])
            for name, one in types.items()
            if name.startswith("crash-")
        }

    def trouble(self, node_type: str, seconds: float = 60.0) -> None:
        now = self.now.timestamp()
        trouble = Trouble(code="VcpuLimitExceeded", message="No more.", since=now, next_try=now + seconds)
        self.file.launches.write_text(json.dumps({node_type: asdict(trouble)}))

    def told(self, *machines: MachineGroup) -> MachineGroup:
        [found] = [one for one in self.fleet.groups(machines) if one.name == "crash"]
        return found


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def waiting(count: int) -> Demand:
    return Demand(waiting=(Resources(cpus=2, memory=1 * GIB),) * count, waiting_count=count)


def away(*_: object) -> None:
    raise StorageUnavailable("It is away.")


def test_machines_that_are_on_their_way_are_told_which_images_they_will_need(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, image = MemoryObjects(), WantedImage("calculix", "2.20", "podman")
    yard.fleet = Fleet(yard.file, yard.store, "10.0.0.1:6379", {}, lambda: yard.now, objects)
    yard.make()
    here = Room(cpus=2, memory=4 * GIB, is_busy=True)

    def told() -> list[WantedImage]:
        for thread in threading.enumerate():
            if thread.name == "images":
                thread.join(30)
        return wanted(objects, "crash", yard.now)

    yard.look(crash=replace(waiting(0), rooms=(here,), images=frozenset({image})))
    assert told() == [], "no machine is on its way"
    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", away)
        yard.look(crash=replace(waiting(1), images=frozenset({image})))
        assert told() == [], "the storage does not answer, and the next look tells it"
    yard.look(crash=replace(waiting(1), images=frozenset({image})))
    assert told() == [image]
    objects.delete([Paths.wanted_images("crash")])
    yard.look(crash=replace(waiting(1), images=frozenset({image})))
    assert told() == [], "it is not told again and again"
    yard.now += timedelta(minutes=11)
    yard.look(crash=replace(waiting(1), images=frozenset({image})))
    assert told() == [image]


def test_an_mpi_group_has_all_of_its_machines_or_none(yard: Yard) -> None:
    record = yard.make(machine_types=["c7i.large", "m7i.large"], max=4, mpi=True)
    first, second = "c7i.large-on-demand", "m7i.large-on-demand"
    yard.look()
    assert yard.sizes() == {first: (0, 4), second: (0, 4)}
    assert (yard.told().mpi, yard.told().wanted) == (True, 0)
    yard.look(crash=waiting(1))
    assert yard.sizes() == {first: (4, 4), second: (0, 4)}
    yard.trouble(f"crash-{record.id}-{first}")
    yard.look(crash=waiting(1))
    assert yard.sizes() == {first: (0, 4), second: (4, 4)}
    yard.now += timedelta(minutes=2)
    yard.look(crash=waiting(1))
    assert yard.sizes() == {first: (0, 4), second: (4, 4)}, "it does not change horses"
    node_type = yaml.safe_load(yard.path.read_text())["available_node_types"][f"crash-{record.id}-{second}"]
    assert node_type["node_config"][TOGETHER] is True


def test_an_elastic_group_follows_its_tasks_and_a_fixed_one_is_whole_at_once(yard: Yard) -> None:
    yard.make()
    yard.look(crash=waiting(3))
    assert yard.sizes() == {"c7i.large-on-demand": (3, 5)}
    yard.look()
    assert yard.sizes() == {"c7i.large-on-demand": (0, 5)}
    [record] = yard.store.group_records()
    fixed = record.model_copy(update={"spec": GroupSpec(name="crash", machine_types=("c7i.large",), count=4)})
    yard.store.put_group(fixed, record)
    yard.look()
    assert yard.sizes() == {"c7i.large-on-demand": (4, 4)}
    assert yard.told().wanted == 4


def test_what_cannot_be_started_is_told_and_asked_of_the_next_type_until_its_wait_is_over(yard: Yard) -> None:
    record = yard.make(machine_types=["c7i.large", "m7i.large"], market="spot-then-on-demand")
    yard.look(crash=waiting(2))
    assert yard.sizes()["c7i.large-spot"] == (2, 5)
    yard.trouble(f"crash-{record.id}-c7i.large-spot")
    yard.look(crash=waiting(2))
    assert [size for size, _ in yard.sizes().values()] == [0, 2, 0, 0]
    [trouble] = yard.told().troubles
    assert (trouble.code, trouble.machine_type, trouble.market.value) == ("VcpuLimitExceeded", "c7i.large", "spot")
    assert "quota" in trouble.fix
    yard.now += timedelta(seconds=61)
    yard.look(crash=waiting(2))
    assert [size for size, _ in yard.sizes().values()] == [2, 0, 0, 0]


def test_a_group_at_its_end_time_cancels_what_runs_and_lets_its_machines_go(yard: Yard) -> None:
    yard.make(ends_at=NOW + timedelta(hours=1))
    [submission] = yard.store.submit([draft(group="crash")], NOW)
    assert submission.record is not None
    task = submission.record.id
    yard.look(crash=waiting(1))
    yard.store.apply(task, dispatch(), NOW)
    yard.now += timedelta(hours=1)
    busy = Demand(rooms=(Room(cpus=0, memory=0, is_busy=True),), there={"x": 1})
    yard.look(crash=busy)
    assert yard.store.get(task).task.cancel_requested
    assert Pause(group="crash") in yard.store.rules(NOW).pauses
    assert yard.told().state is GroupState.ENDING
    yard.now += timedelta(seconds=600)
    yard.look(crash=busy)
    assert yard.sizes() == {"c7i.large-on-demand": (0, 0)}
    yard.look()
    assert yard.store.rules(NOW).pauses == frozenset()
    assert "crash" not in [one.name for one in yard.fleet.groups([])]
    assert yard.sizes() == {"c7i.large-on-demand": (0, 0)}, "the autoscaler may still know a machine of it"
    yard.now += timedelta(hours=1)
    yard.look()
    assert yard.sizes() == {}
    assert yard.store.group_records() == []


def test_a_file_that_nobody_else_wrote_is_not_written_again(yard: Yard) -> None:
    yard.make()
    yard.look(crash=waiting(1))
    before = yard.path.stat().st_mtime_ns
    yard.look(crash=waiting(1))
    assert yard.path.stat().st_mtime_ns == before
    yard.path.write_text(FILE.read_text())
    yard.look(crash=waiting(1))
    assert yard.sizes() == {"c7i.large-on-demand": (1, 5)}, "after another `ray up`"
