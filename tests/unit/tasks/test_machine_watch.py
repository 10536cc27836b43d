from __future__ import annotations

from typing import Any

import pytest

from simulators.outcome import Outcome
from simyard.event import EventKind
from simyard.reason import ReasonCode
from simyard.resources import GIB
from simyard.status import Status
from tasks.lifecycle import Cancel, Dispatch, End, Lost, Progress, Renew
from tasks.machine_watch import MachineWatch
from tasks.memory import MemoryStore
from tasks.placement import Host
from tasks.record import TaskRecord
from tests.unit.tasks.samples import NOW, dispatch, draft, failed, later, reason, succeeded

HOSTS = [Host(id=f"id-{name}", name=name, group="local", cpus=4, memory=GIB, gpus=0) for name in ("good", "bad")]


class Yard:
    """A store, a watch, and tasks that end on machines."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.watch = MachineWatch(self.store)
        self.now = 0.0

    def start(self, machine: str, *, runs: bool = True, **fields: Any) -> str:
        [answer] = self.store.submit([draft(**fields)], later(self.now))
        assert answer.record is not None
        self.again(answer.record.id, machine, runs=runs)
        return answer.record.id

    def again(self, task: str, machine: str, *, runs: bool = True) -> None:
        place = Dispatch(machine, "sim-1", dispatch().runtime, later(self.now + 30))
        attempt = self.store.apply(task, place, later(self.now)).attempt
        if runs:
            self.store.apply(task, Progress(attempt, Status.RUNNING), later(self.now))

    def end(self, task: str, outcome: Outcome | None = None) -> TaskRecord:
        now = later(self.now)
        end = End(self.store.get(task).attempt, outcome or failed())
        record = self.store.apply(task, self.watch.judge(task, end, HOSTS, now), now)
        self.watch.saw(record, now)
        return record

    def lose(self, task: str) -> TaskRecord:
        lost = Lost(self.store.get(task).attempt, reason(ReasonCode.MACHINE_LOST))
        self.watch.lost(self.store.apply(task, lost, later(self.now)), HOSTS, later(self.now))
        return self.store.get(task)

    def is_aside(self, machine: str) -> bool:
        return machine in self.watch.set_aside(HOSTS, later(self.now))


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.end(yard.start("good"), succeeded())
    yard.now = 1
    return yard


def test_the_tasks_of_a_machine_that_is_set_aside_go_back_without_charge(yard: Yard) -> None:
    tasks = [yard.start("bad", retries=1) for _ in range(4)]
    first, second = yard.end(tasks[0]), yard.end(tasks[1])
    assert (first.failures, second.failures) == (1, 1)
    third = yard.end(tasks[2])
    assert yard.is_aside("bad")
    assert (third.status, third.failures, third.losses, third.ready_at) == (Status.QUEUED, 0, 0, later(1))
    why = third.task.reason
    assert why is not None
    assert (why.code, why.evidence["set_aside"], why.evidence["reason"]) == (ReasonCode.PREEMPTED, "bad", "exit-code")
    assert why.evidence["exit_code"] == 3
    for task in tasks[:2]:
        record = yard.store.get(task)
        assert (record.status, record.failures, record.ready_at) == (Status.QUEUED, 0, later(1))
        assert record.task.attempts[0].is_forgiven
        assert yard.store.events(task=task)[-1].kind is EventKind.NOTE
    # What was on the way there goes back as well.
    assert yard.end(tasks[3]).failures == 0
    # Elsewhere, it is the task's own failure.
    yard.again(tasks[2], "good")
    assert yard.end(tasks[2]).failures == 1


def test_a_task_without_retries_that_has_ended_stays_ended_and_the_next_ones_are_saved(yard: Yard) -> None:
    tasks = [yard.start("bad") for _ in range(3)]
    assert [yard.end(task).status for task in tasks] == [Status.FAILED, Status.FAILED, Status.QUEUED]
    assert yard.store.get(tasks[0]).status is Status.FAILED


def test_processes_that_die_at_once_count_and_their_losses_are_given_back(yard: Yard) -> None:
    tasks = [yard.start("bad", runs=False) for _ in range(3)]
    assert [yard.lose(task).losses for task in tasks] == [1, 1, 0]
    assert yard.is_aside("bad")
    assert [yard.store.get(task).losses for task in tasks] == [0, 0, 0]


def test_a_failure_after_a_while_does_not_count(yard: Yard) -> None:
    tasks = [yard.start("bad", retries=1) for _ in range(5)]
    yard.now = 12
    for task in tasks:
        yard.end(task)
    assert not yard.is_aside("bad")


def test_an_attempt_that_never_came_to_run_counts_however_long_it_took(yard: Yard) -> None:
    tasks = [yard.start("bad", runs=False) for _ in range(3)]
    yard.now = 60
    for task in tasks:
        yard.end(task, failed(ReasonCode.IMAGE_ERROR, stored=False))
    assert yard.is_aside("bad")


@pytest.mark.parametrize(
    "outcome",
    [
        succeeded(),
        failed(ReasonCode.OUT_OF_MEMORY),
        failed(ReasonCode.TIME_LIMIT).model_copy(update={"status": Status.TIMED_OUT}),
        Outcome(status=Status.CANCELLED, reason=reason(ReasonCode.CANCELLED_BY_USER)),
    ],
)
def test_an_end_that_says_nothing_of_the_machine_does_not_count(yard: Yard, outcome: Outcome) -> None:
    for _ in range(5):
        task = yard.start("bad")
        yard.store.apply(task, Cancel(), NOW)
        yard.end(task, outcome)
    assert not yard.is_aside("bad")


def test_a_task_that_lives_on_speaks_for_its_machine(yard: Yard) -> None:
    for task in [yard.start("bad") for _ in range(2)]:
        yard.end(task)
    yard.now = 2
    good = yard.start("bad")
    yard.now = 13
    yard.watch.saw(yard.store.apply(good, Renew(1, later(60)), later(13)), later(13))
    yard.end(yard.start("bad"))
    assert not yard.is_aside("bad")


def test_a_late_report_is_left_to_the_store(yard: Yard) -> None:
    task = yard.start("bad")
    end = End(7, failed())
    assert yard.watch.judge(task, end, HOSTS, NOW) is end
    assert yard.watch.judge("t000000000000", end, HOSTS, NOW) is end


def test_a_cancelled_task_of_a_machine_that_is_set_aside_is_cancelled(yard: Yard) -> None:
    tasks = [yard.start("bad") for _ in range(3)]
    yard.store.apply(tasks[2], Cancel(), NOW)
    assert [yard.end(task).status for task in tasks] == [Status.FAILED, Status.FAILED, Status.CANCELLED]
