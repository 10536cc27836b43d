"""What the dispatcher does for tasks that wait for others."""

from __future__ import annotations

from simulators.work import Report, Taken, Work
from simyard.dependency import Dependency, InputFrom
from simyard.status import Status
from storage.memory import MemoryStore as Objects
from tasks.desk import Clock, Desk
from tasks.holders import Verdict
from tasks.lifecycle import Cancel
from tasks.memory import MemoryStore
from tasks.record import TaskRecord
from tests.unit.tasks.samples import INPUTS, draft, failed, later, succeeded
from tests.unit.tasks.test_desk_adoption import Actors, OnLeft


class Watched(Actors):
    """Actors that remember what they are to do."""

    works: dict[str, Work]

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        super().hand_over(name, work, left)
        self.works[work.task] = work


class Line:
    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store, self.actors = store or MemoryStore(), Watched()
        self.actors.works = {}
        clock = Clock(now=lambda: later(0), monotonic=lambda: 0.0)
        self.desk = Desk(self.store, Objects("desk"), self.actors, clock, lease=30, warm=60, storage="memory://desk")
        self.desk.recover()

    def submit(self, **fields: object) -> str:
        [answer] = self.store.submit([draft(**fields)], later(0))
        assert answer.record is not None
        return answer.record.id

    def look(self, task: str) -> TaskRecord:
        return self.store.get(task)


def test_a_task_starts_in_the_turn_after_the_end_that_it_waits_for_and_is_told_where_the_outputs_are() -> None:
    line = Line()
    first = line.submit()
    taken = InputFrom(task=first, path="*.rpt", into="in")
    second = line.submit(inputs=(*INPUTS, taken))
    line.desk.turn()
    assert (line.look(first).status, line.look(second).status) == (Status.PREPARING, Status.WAITING)
    assert line.actors.works[first].taken == ()
    assert line.desk.report(first, 1, [Report(succeeded())]) is Verdict.TAKEN
    line.desk.turn()
    assert line.look(second).status is Status.PREPARING
    assert line.actors.works[second].taken == (Taken(task=first, attempt=1, what=taken),)
    assert line.actors.works[second].inputs == INPUTS


def test_a_task_that_took_any_end_is_told_that_there_are_no_outputs() -> None:
    line = Line()
    first = line.submit()
    taken = InputFrom(task=first, path="*")
    second = line.submit(after=(Dependency(task=first, end="any"),), inputs=(*INPUTS, taken))
    line.desk.turn()
    assert line.desk.report(first, 1, [Report(failed(stored=False))]) is Verdict.TAKEN
    line.desk.turn()
    assert [one.attempt for one in line.actors.works[second].taken] == [None]


def test_a_turn_tells_a_whole_chain() -> None:
    line = Line()
    chain = [line.submit(priority=-1)]
    for _ in range(30):
        chain.append(line.submit(after=(Dependency(task=chain[-1]),)))
    line.store.apply(chain[0], Cancel(), later(0))
    line.desk.turn()
    assert {line.look(task).status for task in chain[1:]} == {Status.FAILED}


def test_a_dispatcher_that_starts_anew_tells_what_the_one_before_it_did_not() -> None:
    line = Line()
    first = line.submit()
    second = line.submit(after=(Dependency(task=first),))
    line.desk.turn()
    assert line.desk.report(first, 1, [Report(succeeded())]) is Verdict.TAKEN
    again = Line(line.store)
    again.desk.turn()
    assert line.look(second).status is Status.PREPARING
