"""What the dispatcher does with a machine on which all tasks fail at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from simulators.work import Report
from simyard.group import Machine
from simyard.reason import ReasonCode
from simyard.status import Status
from storage.memory import MemoryStore as Objects
from tasks.desk import Clock, Desk
from tasks.explain import explain
from tasks.holders import Broken, Verdict
from tasks.memory import MemoryStore
from tasks.record import TaskRecord
from tests.unit.tasks.samples import draft, failed, later, succeeded
from tests.unit.tasks.test_desk_adoption import Actors, host


class Yard:
    """A desk with two machines; `bad` is smaller, so what fits there is placed there first."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.actors = Actors(hosts=(host(1, "good"), replace(host(2, "bad"), cpus=4)))
        self.seconds = 0.0
        clock = Clock(now=lambda: later(self.seconds), monotonic=lambda: self.seconds)
        self.desk = Desk(self.store, Objects("desk"), self.actors, clock, lease=30, warm=60, storage="memory://desk")
        self.desk.recover()

    def start(self, count: int, *, retries: int = 1, version: str = "5.2.4") -> list[str]:
        drafts = [draft(retries=retries, version=version) for _ in range(count)]
        answers = self.store.submit(drafts, later(self.seconds))
        self.desk.turn()
        return [answer.record.id for answer in answers if answer.record is not None]

    def run(self, task: str) -> None:
        assert self.desk.report(task, self.record(task).attempt, [Report(Status.RUNNING)]) is Verdict.TAKEN

    def fail(self, task: str) -> None:
        assert self.desk.report(task, self.record(task).attempt, [Report(failed())]) is Verdict.TAKEN

    def record(self, task: str) -> TaskRecord:
        return self.store.get(task)

    def machine(self, name: str) -> Machine:
        [group] = self.desk.groups()
        return next(machine for machine in group.machines if machine.name == name)


@pytest.fixture
def yard() -> Yard:
    """A task has done well on the good machine, and three run on the bad one."""
    yard = Yard()
    both = yard.actors.hosts
    yard.actors.hosts = both[:1]
    yard.desk.recover()
    [task] = yard.start(1, version="5.2.3")  # of another version, whose environment attracts nothing
    yard.run(task)
    assert yard.desk.report(task, 1, [Report(succeeded())]) is Verdict.TAKEN
    yard.actors.hosts = both[1:] + both[:1]
    yard.seconds = 70
    yard.desk.turn()  # the idle actor on the good machine ends
    return yard


def test_a_machine_that_is_set_aside_gets_no_tasks_and_shows_it_until_its_time_is_over(yard: Yard) -> None:
    tasks = yard.start(3)
    for task in tasks:
        assert yard.record(task).task.attempts[-1].machine == "bad"
        yard.run(task)
        yard.fail(task)
    assert yard.machine("good").set_aside_until is None
    assert yard.machine("bad").set_aside_until == later(70) + timedelta(minutes=5)
    assert [(yard.record(t).status, yard.record(t).failures, yard.record(t).losses) for t in tasks] == [
        (Status.QUEUED, 0, 0)
    ] * 3
    told = explain(yard.record(tasks[2]), yard.store.events(task=tasks[2]), 0, yard.desk.groups())
    assert "Machine bad was set aside" in told.summary
    assert "bad is set aside until" in (told.next or "")
    forgiven = explain(yard.record(tasks[0]), yard.store.events(task=tasks[0]), 0, yard.desk.groups())
    assert "its machine was set aside" in " ".join(forgiven.details)
    yard.desk.turn()
    assert [yard.record(t).task.attempts[-1].machine for t in tasks] == ["good"] * 3
    yard.seconds += 301
    assert yard.machine("bad").set_aside_until is None


@pytest.mark.parametrize(("age", "is_charged"), [(9.0, True), (10.0, False)])
def test_a_start_that_is_reported_with_the_end_counts_from_when_it_was(
    yard: Yard, age: float, is_charged: bool
) -> None:
    tasks = yard.start(3)
    yard.seconds += 20
    for task in tasks:
        reports = [Report(Status.RUNNING, age), Report(Status.FINALIZING, 0.0), Report(failed())]
        assert yard.desk.report(task, 1, reports) is Verdict.TAKEN
        assert yard.record(task).task.attempts[-1].started_at == later(yard.seconds - age)
    assert (yard.machine("bad").set_aside_until is not None) is is_charged


def test_what_the_last_attempt_printed_is_kept_where_its_machine_was_at_fault(yard: Yard) -> None:
    tasks = yard.start(3)
    for task in tasks:
        yard.run(task)
        yard.fail(task)
    last = yard.record(tasks[2]).task.attempts[-1]
    assert last.exit_code == failed().exit_code
    assert last.reason is not None
    assert last.reason.code is ReasonCode.PREEMPTED


def test_attempts_that_nobody_can_carry_set_a_machine_aside_too(yard: Yard) -> None:
    tasks = yard.start(3)
    for task in tasks:
        yard.actors.left[yard.record(task).holder or ""](Broken("No space left on device."))
    assert yard.machine("bad").set_aside_until is not None
    assert [yard.record(task).losses for task in tasks] == [0, 0, 0]


def place_of(yard: Yard, task: str) -> str:
    return yard.record(task).task.attempts[-1].machine


def placed_now(yard: Yard) -> str:
    [task] = yard.start(1)
    return place_of(yard, task)


def test_a_machine_that_says_nothing_for_half_a_lease_gets_no_tasks_until_it_is_heard(yard: Yard) -> None:
    [quiet] = yard.start(1)
    yard.run(quiet)
    assert place_of(yard, quiet) == "bad"
    for _ in range(15):
        yard.seconds += 1
        yard.desk.turn()
    # Its next word may be late by half of what it is due in.
    assert placed_now(yard) == "bad"
    yard.seconds += 1
    assert placed_now(yard) == "good"
    # One that was only just given to its actor is no word of its machine.
    yard.seconds += 1
    assert placed_now(yard) == "good"
    assert yard.desk.renew(quiet, 1) is Verdict.TAKEN
    assert placed_now(yard) == "bad"


def test_where_all_machines_of_a_group_say_nothing_they_get_tasks_still(yard: Yard) -> None:
    yard.actors.hosts = yard.actors.hosts[:1]
    yard.desk.recover()
    [quiet] = yard.start(1)
    yard.run(quiet)
    machine = place_of(yard, quiet)
    for _ in range(20):
        yard.seconds += 1
        yard.desk.turn()
    assert placed_now(yard) == machine
