"""What the dispatcher makes of tasks that want a machine for themselves, and of what machines have in place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.work import Report
from simyard.resources import GIB, Resources
from simyard.status import Status
from storage.memory import MemoryStore as Objects
from tasks.desk import Clock, Desk
from tasks.lifecycle import Hold, Release
from tasks.memory import MemoryStore
from tasks.record import TaskQuery, TaskRecord
from tasks.rules import Quota
from tests.unit.tasks.samples import case, draft, later, succeeded, sweep
from tests.unit.tasks.test_desk_adoption import Actors, host


class Yard:
    """A desk with two machines, of which the second one is larger."""

    def __init__(self, storage: str = "memory://desk") -> None:
        self.store = MemoryStore()
        self.seconds = 0.0
        clock = Clock(now=lambda: later(self.seconds), monotonic=lambda: self.seconds)
        small = replace(host(1, "small"), cpus=4, disk=50 * GIB)
        self.actors = Actors(hosts=(small, replace(small, id="id-2", name="large", cpus=16, memory=64 * GIB)))
        self.desk = Desk(self.store, Objects("desk"), self.actors, clock, lease=30, warm=0, storage=storage)
        self.desk.recover()

    def submit(self, resources: Resources, version: str = "5.2.4") -> str:
        [answer] = self.store.submit([draft(resources=resources, version=version)], later(self.seconds))
        assert answer.record is not None
        return answer.record.id

    def turn(self) -> None:
        self.seconds += 3
        self.desk.turn()

    def finish(self, task: str) -> None:
        number = self.record(task).attempt
        self.desk.report(task, number, [Report(Status.RUNNING)])
        self.desk.report(task, number, [Report(succeeded())])

    def record(self, task: str) -> TaskRecord:
        return self.store.get(task)

    def machine_of(self, task: str) -> str:
        return self.record(task).task.attempts[-1].machine


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_a_task_that_wants_a_whole_machine_runs_alone_with_all_that_the_machine_has(yard: Yard) -> None:
    tasks = [yard.submit(Resources(whole_machine=True)) for _ in range(2)]
    small = yard.submit(Resources())
    yard.turn()
    took = {yard.machine_of(task): yard.record(task).task.resources for task in tasks}
    assert {name: (need.cpus, need.memory, need.whole_machine) for name, need in took.items()} == {
        "small": (4, 16 * GIB, True),
        "large": (16, 64 * GIB, True),
    }
    assert yard.record(small).status is Status.QUEUED
    [group] = yard.desk.groups()
    assert [(one.cpus_free, one.memory_free) for one in group.machines] == [(0, 0), (0, 0)]
    yard.finish(next(task for task in tasks if yard.machine_of(task) == "large"))
    yard.turn()
    yard.turn()
    assert yard.machine_of(small) == "large"


def test_a_whole_machine_counts_for_a_quota_with_what_it_has(yard: Yard) -> None:
    yard.store.set_quota(Quota(user="ada", cpus=15))
    task = yard.submit(Resources(whole_machine=True))
    yard.turn()
    assert yard.record(task).status is Status.QUEUED, "it could get the large machine"
    yard.store.set_quota(Quota(user="ada", cpus=16))
    other = yard.submit(Resources())
    yard.turn()
    assert (yard.record(task).status, yard.record(other).status) == (Status.PREPARING, Status.QUEUED)


def test_machines_show_the_disk_that_is_kept_on_them(yard: Yard) -> None:
    for asked in (30, 20, 25):
        yard.submit(Resources(disk=asked * GIB))
    yard.turn()
    assert len(yard.store.list(TaskQuery(status=Status.PREPARING))) == 3
    [group] = yard.desk.groups()
    assert [(one.disk, one.disk_free) for one in group.machines] == [(50 * GIB, 20 * GIB), (50 * GIB, 25 * GIB)]


def test_a_machine_that_has_run_a_simulator_is_preferred_for_it(yard: Yard) -> None:
    small, large = yard.actors.hosts
    yard.actors.hosts = (large,)
    yard.turn()
    first = yard.submit(Resources())
    yard.turn()
    yard.finish(first)
    yard.actors.hosts = (small, large)
    yard.turn()
    yard.turn()
    again, another = yard.submit(Resources()), yard.submit(Resources(), version="5.2.3")
    yard.turn()
    assert yard.machine_of(again) == "large"
    yard.finish(again)
    yard.finish(another)
    yard.turn()
    yard.turn()
    new = yard.submit(Resources(), version="5.2.2")
    yard.turn()
    assert yard.machine_of(new) == "small", "where nothing is in place the smaller one is filled first"


def test_what_is_in_place_is_learned_anew_from_what_runs(yard: Yard) -> None:
    small, large = yard.actors.hosts
    yard.actors.hosts = (large,)
    yard.turn()
    first = yard.submit(Resources())
    yard.turn()
    yard.desk.report(first, 1, [Report(Status.RUNNING)])
    yard.actors.hosts = (small, large)
    yard.desk.recover()
    assert {one.simulator for one in yard.desk._in_place.on("large")} == {"swmm"}


@pytest.mark.parametrize(("storage", "machine"), [("s3://bucket", "large"), ("file:///folder", "small")])
def test_the_next_case_of_a_sweep_goes_where_inputs_of_it_are_kept(storage: str, machine: str) -> None:
    yard, cases = Yard(storage), []
    for of in (sweep(), sweep()):
        drafts = [draft(case=case(of, number), resources=Resources(cpus=3)) for number in (1, 2)]
        yard.store.submit_sweep(of, drafts, later(0))
        cases.append([one.id for one in drafts])
        yard.store.apply(drafts[1].id, Hold(), later(0))
        yard.turn()
    assert [yard.machine_of(first) for first, _ in cases] == ["small", "large"]
    for first, _ in cases:
        yard.finish(first)
    yard.turn()
    yard.store.apply(cases[1][1], Release(), later(yard.seconds))
    yard.turn()
    assert yard.machine_of(cases[1][1]) == machine
