"""What becomes of queued tasks that ask for the result of an earlier one."""

from __future__ import annotations

from typing import Any

import pytest

from simyard.event import EventKind
from simyard.reason import ReasonCode
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.manifest import commit_manifest
from storage.memory import MemoryStore as Objects
from storage.objects import ObjectInfo
from storage.paths import Paths
from tasks.desk import Clock, Desk
from tasks.errors import Refused
from tasks.lifecycle import Cancel, End, Hold, Lost, Progress, Reused, step
from tasks.memory import MemoryStore
from tasks.reuse import take_results
from tests.unit.tasks.samples import NOW, dispatch, draft, later, queued, reason, running, succeeded
from tests.unit.tasks.test_desk_adoption import Actors, Scene

SOURCE = "t000000000001"


class Bench:
    """A store with a task that has succeeded, and its outputs."""

    def __init__(self) -> None:
        self.store, self.objects = MemoryStore(), Objects("reuse")
        self.source = self.submit()
        self.store.apply(self.source, dispatch(), NOW)
        self.store.apply(self.source, Progress(1, Status.FINALIZING), NOW)
        self.store.apply(self.source, End(1, succeeded()), NOW)
        commit_manifest(self.objects, self.source, 1, [])

    def submit(self, **fields: Any) -> str:
        [answer] = self.store.submit([draft(**({"fingerprint": "f"} | fields))], NOW)
        assert answer.record is not None
        return answer.record.id

    def take(self) -> list[str]:
        """Take results, and return the tasks that are still queued."""
        queue = self.store.queue(later(60), 100)
        return [record.id for record in take_results(self.store, self.objects, queue, later(60))]


def test_one_turn_takes_many_results_and_starts_what_stands_behind() -> None:
    bench = Bench()
    asking = [bench.submit(reuse=True) for _ in range(200)]
    behind = bench.submit(fingerprint="g")
    clock = Clock(now=lambda: later(60), monotonic=lambda: 60.0)
    desk = Desk(bench.store, bench.objects, Actors(), clock, lease=30, warm=60, storage="memory://reuse")
    desk.recover()
    desk.turn()
    assert {bench.store.get(task).status for task in asking} == {Status.SUCCEEDED}
    assert bench.store.get(behind).status is Status.PREPARING


def test_who_asks_gets_the_result_and_nobody_else() -> None:
    bench = Bench()
    asking, silent, other = bench.submit(reuse=True), bench.submit(), bench.submit(reuse=True, fingerprint="g")
    stranger = bench.submit(reuse=True, user="bob")
    assert bench.take() == [silent, other, stranger]
    record = bench.store.get(asking)
    assert (record.status, record.task.reused_from, record.task.result) == (Status.SUCCEEDED, bench.source, 1)
    assert (record.attempt, record.task.started_at, record.task.ended_at) == (0, None, later(60))
    event = bench.store.events(task=asking)[-1]
    assert (event.kind, event.status) == (EventKind.STATUS, Status.SUCCEEDED)
    assert bench.source in (event.message or "")


def test_a_result_whose_outputs_are_gone_is_computed_again() -> None:
    bench = Bench()
    bench.objects.delete([Paths.manifest(bench.source, 1)])
    asking = bench.submit(reuse=True)
    assert bench.take() == [asking]


def test_a_storage_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    asking = bench.submit(reuse=True)

    def fail(key: str) -> ObjectInfo | None:
        raise StorageUnavailable

    monkeypatch.setattr(bench.objects, "head", fail)
    assert bench.take() == [asking]


def test_a_result_that_is_withdrawn_meanwhile_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    asking = bench.submit(reuse=True)
    found = bench.store.earlier_results([asking])
    monkeypatch.setattr(bench.store, "earlier_results", lambda tasks: found)
    bench.store.withdraw(bench.source)
    assert bench.take() == [asking]


def test_a_task_that_is_held_takes_no_result() -> None:
    bench = Bench()
    asking = bench.submit(reuse=True)
    bench.store.apply(asking, Hold(), NOW)
    assert bench.take() == []
    assert bench.store.get(asking).status is Status.QUEUED


def test_the_dispatcher_starts_nothing_for_a_result_that_is_there() -> None:
    scene = Scene()
    source = scene.store.get(scene.task)
    scene.store.apply(source.id, Progress(1, Status.FINALIZING), NOW)
    scene.store.apply(source.id, End(1, succeeded()), NOW)
    before = list(scene.actors.handed)
    bench = Bench()
    scene.store, scene.objects = bench.store, bench.objects
    asking = bench.submit(reuse=True)
    scene.make().turn()
    assert bench.store.get(asking).status is Status.SUCCEEDED
    assert scene.actors.handed == before


@pytest.mark.parametrize(
    "record",
    [
        queued(),
        running(reuse=True),
        step(queued(reuse=True), Cancel(), NOW).record,
        step(queued(reuse=True), Reused(SOURCE, 1), NOW).record,
    ],
    ids=["not asked for", "running", "cancelled", "has one"],
)
def test_only_a_queued_task_that_asks_takes_a_result(record: Any) -> None:
    with pytest.raises(Refused):
        step(record, Reused(SOURCE, 1), later(1))


def test_a_task_that_lost_its_machine_may_take_a_result_that_came_meanwhile() -> None:
    record = step(running(reuse=True), Lost(1, reason(ReasonCode.PREEMPTED)), NOW).record
    after = step(record, Reused(SOURCE, 2), later(1)).record
    assert (after.task.result, after.task.reused_from, after.task.reason) == (2, SOURCE, None)
