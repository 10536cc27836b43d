"""What the dispatcher makes of silence: of actors that are slow, of a store and a storage that fail, of clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pytest

from simulators.work import Report
from simyard.files import InputFile
from simyard.reason import ReasonCode
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.memory import MemoryStore as Objects
from storage.objects import ObjectInfo
from tasks.desk import START_GRACE
from tasks.errors import StoreUnavailable
from tasks.holders import Gone, HolderState, Unreachable, Verdict
from tasks.lifecycle import Adopt, Dispatch, Renew
from tasks.memory import MemoryStore
from tasks.record import TaskRecord
from tasks.stimulus import Stimulus
from tests.unit.tasks.samples import NOW, draft, succeeded
from tests.unit.tasks.test_desk_adoption import LEASE, Scene, host, kind_of


class Line(MemoryStore):
    """A store behind a line that fails as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.times_out: type[Stimulus] | None = None
        """The next such write is kept and then fails."""
        self.refuses: type[Stimulus] | None = None
        """Every such write fails and is not kept."""
        self.inputs_fail = False
        self.queues_read: list[int] = []
        """How many tasks were asked for, each time."""

    def apply(
        self, task: str, stimulus: Stimulus, now: datetime, *, earlier: Sequence[tuple[Stimulus, datetime]] = ()
    ) -> TaskRecord:
        if self.refuses and isinstance(stimulus, self.refuses):
            raise StoreUnavailable("It does not answer.")
        after = super().apply(task, stimulus, now, earlier=earlier)
        if self.times_out and isinstance(stimulus, self.times_out):
            self.times_out = None
            raise StoreUnavailable("It did not answer in time.")
        return after

    def inputs(self, task: str) -> tuple[InputFile, ...]:
        if self.inputs_fail:
            raise StoreUnavailable("It does not answer.")
        return super().inputs(task)

    def queue(self, now: datetime, limit: int) -> list[TaskRecord]:
        self.queues_read.append(limit)
        return super().queue(now, limit)


class Dark(Objects):
    """A storage that cannot say whether some tasks have results."""

    def __init__(self) -> None:
        super().__init__("desk")
        self.hidden: str | None = None
        self.broken: str | None = None

    def head(self, key: str) -> ObjectInfo | None:
        if self.hidden and self.hidden in key:
            raise StorageUnavailable("It does not answer.")
        if self.broken and self.broken in key:
            raise ValueError("no manifest looks like this")
        return super().head(key)


class Silence(Scene):
    store: Line
    objects: Dark

    def __init__(self) -> None:
        super().__init__(store=Line(), objects=Dark())

    def submit(self, **spec: object) -> str:
        [answer] = self.store.submit([draft(**spec)], NOW)
        assert answer.record is not None
        return answer.record.id

    def handed(self) -> list[str]:
        return [name for name, _ in self.actors.handed]


@pytest.fixture
def scene() -> Silence:
    return Silence()


# Clocks.


@pytest.mark.parametrize("skew", [-86400.0, 86400.0], ids=["back", "forward"])
def test_a_clock_that_is_set_ends_nothing_that_goes_on_and_keeps_nothing_that_does_not(
    scene: Silence, skew: float
) -> None:
    scene.skew = skew
    for _ in range(6):
        scene.wait(LEASE / 2)
        assert scene.desk.renew(scene.task, 1) is Verdict.TAKEN
    scene.carried_by("sim-1")
    scene.wait(LEASE - 1)
    scene.carried_by("sim-1")
    scene.skew = -skew
    scene.wait(2)
    assert scene.actors.ended == ["sim-1"]
    scene.carried_by("sim-2")


def test_a_dispatcher_that_stood_still_gives_every_attempt_the_time_to_speak(scene: Silence) -> None:
    scene.wait(LEASE - 1)
    scene.seconds += 5000.0
    scene.desk.turn()
    scene.carried_by("sim-1")
    scene.wait(LEASE + 1)
    assert scene.actors.ended == ["sim-1"]


def test_only_an_attempt_that_has_not_spoken_yet_has_longer_than_a_lease(scene: Silence) -> None:
    silent = scene.submit()
    scene.desk.turn()
    assert scene.handed() == ["sim-1", "sim-2"]
    scene.wait(LEASE + 1)
    assert scene.actors.ended == ["sim-1"]
    assert scene.store.get(silent).attempt == 1
    scene.wait(START_GRACE)
    assert "sim-2" in scene.actors.ended


def test_an_attempt_that_reports_lives_although_the_store_cannot_write_it_down(scene: Silence) -> None:
    scene.store.refuses = Renew
    for _ in range(9):
        scene.wait(LEASE / 2)
        with pytest.raises(StoreUnavailable):
            scene.desk.renew(scene.task, 1)
    scene.carried_by("sim-1")


# Hand-overs.


def test_a_dispatch_that_was_kept_although_it_timed_out_is_given_back_at_once(scene: Silence) -> None:
    second = scene.submit()
    scene.store.times_out = Dispatch
    with pytest.raises(StoreUnavailable):
        scene.desk.turn()
    assert scene.store.get(second).status is Status.PREPARING
    scene.desk.turn()
    record = scene.store.get(second)
    assert (record.status, record.attempt, record.losses) == (Status.PREPARING, 2, 0)
    assert scene.actors.handed[1:] == [("sim-2", 2)]


def test_an_attempt_whose_inputs_could_not_be_read_is_given_back_and_its_actor_is_used(scene: Silence) -> None:
    second = scene.submit()
    scene.store.inputs_fail = True
    with pytest.raises(StoreUnavailable):
        scene.desk.turn()
    scene.store.inputs_fail = False
    scene.desk.turn()
    record = scene.store.get(second)
    assert (record.status, record.attempt, record.losses) == (Status.PREPARING, 2, 0)
    assert scene.actors.handed[1:] == [("sim-2", 2)]


def test_a_takeover_that_was_kept_although_it_timed_out_is_made_anew(scene: Silence) -> None:
    scene.store.times_out = Adopt
    scene.actors.left["sim-1"](Gone())
    assert scene.actors.ended == ["sim-2"]
    scene.desk.turn()
    assert scene.actors.adopted == [("sim-3", 1)]
    scene.carried_by("sim-3")


# Actors.


def test_an_actor_that_cannot_be_reached_goes_on_and_is_watched_again(scene: Silence) -> None:
    scene.actors.left["sim-1"](Unreachable())
    watched = scene.actors.left.pop("sim-1")
    scene.carried_by("sim-1")
    scene.desk.turn()
    scene.desk.turn()
    assert scene.actors.watched == [("sim-1", 1)]
    assert scene.actors.left["sim-1"] is not watched
    scene.actors.left["sim-1"](Gone())
    scene.carried_by("sim-2")


def test_a_new_dispatcher_leaves_an_actor_that_is_slow_to_answer_its_attempt_until_the_lease(scene: Silence) -> None:
    scene.actors.living = {"sim-1": None, "sim-idle": None}
    scene.desk = scene.make()
    scene.desk.recover()
    assert scene.actors.ended == ["sim-idle"], "one that carries nothing and does not answer is of no use"
    scene.wait(LEASE - 1)
    scene.carried_by("sim-1")
    assert scene.actors.adopted == []
    assert scene.desk.renew(scene.task, 1) is Verdict.TAKEN
    scene.wait(LEASE - 1)
    scene.carried_by("sim-1")
    scene.wait(2)
    assert scene.actors.ended[1:] == ["sim-1"]


def test_the_lease_of_one_attempt_does_not_end_an_actor_that_carries_another(scene: Silence) -> None:
    second = scene.submit()
    scene.actors.left["sim-1"](None)  # it says that it is done, and its report is lost
    scene.desk.turn()
    assert scene.actors.handed == [("sim-1", 1), ("sim-1", 1)]
    for _ in range(7):
        scene.wait(LEASE / 2)
        assert scene.desk.renew(second, 1) is Verdict.TAKEN
    assert "sim-1" not in scene.actors.ended
    assert scene.store.get(second).holder == "sim-1"
    assert scene.record.holder != "sim-1"
    assert scene.desk.report(second, 1, [Report(succeeded())]) is Verdict.TAKEN
    [group] = scene.desk.groups()
    assert group.machines[0].cpus_free == 7, "only the actor that took over is busy"


def test_a_new_dispatcher_uses_an_actor_again_that_was_busy_with_what_is_over_for_the_store(scene: Silence) -> None:
    assert scene.desk.report(scene.task, 1, [Report(succeeded())]) is Verdict.TAKEN
    kind = kind_of(scene.record)
    scene.actors.living = {"sim-1": HolderState(host="id-1", kind=kind, carries=(scene.task, 1))}
    scene.desk = scene.make()
    scene.actors.left.clear()
    scene.desk.recover()
    scene.desk.turn()
    scene.actors.left["sim-1"](None)
    scene.submit()
    scene.desk.turn()
    assert scene.actors.handed[1:] == [("sim-1", 1)]


def test_an_actor_that_reports_after_it_seemed_to_have_nothing_to_do_is_busy(scene: Silence) -> None:
    scene.actors.living = {"sim-1": None}  # it starts, and what it was handed waits for it
    scene.desk = scene.make()
    scene.desk.recover()
    scene.desk.turn()
    scene.actors.left["sim-1"](None)
    assert scene.desk.renew(scene.task, 1) is Verdict.TAKEN
    scene.submit()
    scene.desk.turn()
    assert scene.actors.handed[1:] == [("sim-2", 1)]
    assert scene.actors.watched == [("sim-1", 1)] * 2


# One task and the others.


def _forget_all(scene: Silence) -> None:
    scene.actors.left["sim-1"](Gone())


def _recover(scene: Silence) -> None:
    scene.desk = scene.make()
    scene.desk.recover()


@pytest.mark.parametrize("lose", [_forget_all, _recover])
def test_a_task_whose_result_cannot_be_looked_up_does_not_hold_up_the_others(
    scene: Silence, lose: Callable[[Silence], None]
) -> None:
    scene.actors.hosts, scene.actors.gone = (host(2, "another"),), frozenset({"node"})
    scene.objects.hidden = scene.task
    lose(scene)
    second = scene.submit()
    scene.wait(3)
    assert scene.store.get(second).status is Status.PREPARING
    scene.carried_by("sim-1")
    scene.objects.hidden = None
    scene.wait(1)
    assert (scene.record.attempt, scene.record.losses) == (2, 1)


def test_a_task_whose_result_is_damaged_does_not_hold_up_the_others(scene: Silence) -> None:
    scene.objects.broken = scene.task
    scene.actors.left["sim-1"](Gone())
    second = scene.submit()
    scene.wait(1)
    assert scene.store.get(second).status is Status.PREPARING


# What an idle turn costs.


def test_while_no_machine_has_room_the_queue_is_not_read(scene: Silence) -> None:
    scene.submit(resources={"cpus": 7})
    scene.wait(1)
    waiting = scene.submit()
    scene.store.queues_read.clear()
    scene.wait(5)
    assert scene.store.queues_read == []
    assert scene.store.get(waiting).status is Status.QUEUED
    scene.actors.hosts += (host(2, "another"),)
    scene.wait(3)
    assert scene.store.get(waiting).status is Status.PREPARING


def test_of_a_long_queue_only_the_first_are_read_when_they_take_all_room(scene: Silence) -> None:
    for _ in range(100):
        scene.submit(resources={"cpus": 4})
    scene.store.queues_read.clear()
    scene.wait(1)
    assert scene.store.queues_read
    assert max(scene.store.queues_read) <= 50


def test_tasks_that_fit_nowhere_do_not_hide_one_that_does(scene: Silence) -> None:
    for _ in range(300):
        scene.submit(resources={"gpus": 1})
    last = scene.submit()
    scene.wait(1)
    assert scene.store.get(last).status is Status.PREPARING


def test_what_an_earlier_life_of_this_dispatcher_knew_is_asked_anew(scene: Silence) -> None:
    scene.actors.living = {"sim-9": HolderState(host="id-1", kind=kind_of(scene.record), carries=None)}
    scene.actors.hosts, scene.actors.gone = (host(2, "another"),), frozenset({"node"})
    scene.desk.recover()
    assert (scene.record.status, scene.record.losses) == (Status.QUEUED, 1)
    assert scene.record.task.reason is not None
    assert scene.record.task.reason.code is ReasonCode.MACHINE_LOST
