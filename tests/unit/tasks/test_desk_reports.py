"""Reports that come together: each counts as if it had come by itself when it happened."""

from __future__ import annotations

import pytest

from simulators.work import Report, Stall
from simyard.reason import ReasonCode
from simyard.status import Status
from tasks.errors import StoreUnavailable
from tasks.holders import Verdict
from tasks.stimulus import End
from tests.unit.tasks.samples import failed, later, succeeded
from tests.unit.tasks.test_desk_silence import Silence

RUN = [Report(Status.RUNNING, 3.0), Report(Stall(1), 2.0), Report(Status.FINALIZING, 1.0), Report(succeeded())]


@pytest.fixture
def scene() -> Silence:
    return Silence()


def started(scene: Silence) -> str:
    task = scene.submit()
    scene.desk.turn()
    return task


def test_each_has_the_moment_when_it_happened(scene: Silence) -> None:
    task = started(scene)
    scene.seconds += 10.0
    assert scene.desk.report(task, 1, RUN) is Verdict.TAKEN
    record = scene.store.get(task)
    assert (record.status, record.task.result) == (Status.SUCCEEDED, 1)
    assert (record.task.started_at, record.task.ended_at) == (later(7), later(10))
    assert [event.at for event in scene.store.events(task=task)][2:] == [later(7), later(8), later(9), later(10)]


def test_what_was_taken_although_it_timed_out_is_taken_again(scene: Silence) -> None:
    task = started(scene)
    scene.store.times_out = End
    with pytest.raises(StoreUnavailable):
        scene.desk.report(task, 1, RUN)
    record = scene.store.get(task)
    assert scene.desk.report(task, 1, RUN) is Verdict.TAKEN
    assert scene.store.get(task) == record


def test_what_came_by_itself_before_may_come_again_with_the_end(scene: Silence) -> None:
    task = started(scene)
    assert scene.desk.report(task, 1, RUN[:3]) is Verdict.TAKEN
    assert scene.desk.report(task, 1, RUN[:3]) is Verdict.TAKEN
    assert scene.desk.report(task, 1, RUN) is Verdict.TAKEN
    assert scene.store.get(task).status is Status.SUCCEEDED


@pytest.mark.parametrize("count", [1, 3, 4])
def test_those_of_an_attempt_that_is_over_say_that_it_is_superseded(scene: Silence, count: int) -> None:
    task = started(scene)
    scene.desk.report(task, 1, [Report(failed(ReasonCode.MACHINE_LOST))])
    scene.desk.turn()
    record = scene.store.get(task)
    assert record.attempt == 2
    assert scene.desk.report(task, 1, RUN[:count]) is Verdict.SUPERSEDED
    assert scene.store.get(task) == record
