"""What the dispatcher does with an attempt whose actor has gone: another one takes over, or the attempt is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import pytest

from cluster.fleet import Room
from simulators.outcome import Outcome
from simulators.work import Report, Work
from simyard.reason import ReasonCode
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.manifest import commit_manifest
from storage.memory import MemoryStore as Objects
from storage.objects import ObjectInfo
from storage.outcomes import put_outcome
from tasks.desk import RETURN_SECONDS, START_GRACE, Clock, Desk
from tasks.holders import Broken, Gone, HolderState, OnLeft, Verdict
from tasks.memory import MemoryStore
from tasks.placement import Host, Kind
from tasks.record import TaskRecord
from tests.unit.tasks.samples import NOW, draft, succeeded

LEASE = 30.0


def host(number: int, name: str = "node") -> Host:
    return Host(id=f"id-{number}", name=name, group="local", cpus=8, memory=2**34, gpus=0)


@dataclass
class Actors:
    """Holders that do nothing but write down what they are asked for."""

    hosts: tuple[Host, ...] = (host(1),)
    gone: frozenset[str] = frozenset()
    living: dict[str, HolderState | None] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    handed: list[tuple[str, int]] = field(default_factory=list)
    adopted: list[tuple[str, int]] = field(default_factory=list)
    watched: list[tuple[str, int]] = field(default_factory=list)
    given: list[Work] = field(default_factory=list)
    left: dict[str, OnLeft] = field(default_factory=dict)

    def machines(self) -> tuple[Host, ...]:
        return self.hosts

    def departed(self) -> frozenset[str]:
        return self.gone

    def start(self, kind: Kind, host: str) -> str:
        self.started.append(host)
        return f"sim-{len(self.started)}"

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        self.handed.append((name, work.attempt))
        self.given.append(work)
        self.left[name] = left

    def adopt(self, name: str, work: Work, left: OnLeft) -> None:
        self.adopted.append((name, work.attempt))
        self.left[name] = left

    def watch(self, name: str, task: str, attempt: int, left: OnLeft) -> None:
        self.watched.append((name, attempt))
        self.left[name] = left

    def cancel(self, name: str, task: str, attempt: int) -> None:
        pass

    def end(self, name: str) -> None:
        self.ended.append(name)

    def ask(self) -> Mapping[str, HolderState | None]:
        return self.living


class Scene:
    """A desk with one task that runs as attempt 1 on the actor sim-1."""

    def __init__(self, store: MemoryStore | None = None, objects: Objects | None = None) -> None:
        self.store, self.objects, self.actors = store or MemoryStore(), objects or Objects("desk"), Actors()
        self.seconds = self.skew = 0.0
        self.desk = self.make()
        [answer] = self.store.submit([draft()], NOW)
        assert answer.record is not None
        self.task = answer.record.id
        self.desk.recover()
        self.desk.turn()
        assert self.desk.report(self.task, 1, [Report(Status.RUNNING)]) is Verdict.TAKEN
        assert self.actors.handed == [("sim-1", 1)]

    def make(self) -> Desk:
        clock = Clock(now=lambda: NOW + timedelta(seconds=self.seconds + self.skew), monotonic=lambda: self.seconds)
        return Desk(self.store, self.objects, self.actors, clock, lease=LEASE, warm=60.0, storage="memory://desk")

    def wait(self, seconds: float) -> None:
        """Let time pass while the dispatcher looks after its tasks every second."""
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds += 1.0
            self.desk.turn()

    @property
    def record(self) -> TaskRecord:
        return self.store.get(self.task)

    def carried_by(self, name: str) -> None:
        """Check that attempt 1 runs on, carried by that actor."""
        assert (self.record.status, self.record.attempt, self.record.holder) == (Status.RUNNING, 1, name)
        assert self.record.losses == 0

    def lost(self) -> None:
        assert (self.record.status, self.record.losses, self.record.holder) == (Status.QUEUED, 1, None)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_when_an_actor_has_gone_another_one_on_its_machine_takes_over(scene: Scene) -> None:
    scene.actors.left["sim-1"](Gone())
    assert scene.actors.started == ["id-1", "id-1"]
    assert scene.actors.adopted == [("sim-2", 1)]
    scene.carried_by("sim-2")
    assert scene.desk.report(scene.task, 1, [Report(succeeded())]) is Verdict.TAKEN
    assert scene.record.task.result == 1


def test_what_cannot_be_taken_over_is_lost(scene: Scene) -> None:
    scene.actors.left["sim-1"](Gone())
    scene.actors.left["sim-2"](Broken("Its folder is not on this machine."))
    scene.lost()
    scene.desk.turn()
    assert scene.actors.handed[1:] == [("sim-2", 2)], "the actor that could not take over is free for the next attempt"


def test_an_attempt_whose_machine_has_gone_is_lost_at_once(scene: Scene) -> None:
    scene.actors.hosts = (host(2, "another"),)
    scene.actors.left["sim-1"](Gone())
    assert scene.actors.adopted == []
    scene.lost()


def test_a_machine_that_joins_a_new_head_late_still_has_its_run_taken_over(scene: Scene) -> None:
    scene.actors.hosts = ()
    scene.desk = scene.make()
    scene.desk.recover()
    scene.wait(RETURN_SECONDS - 10)
    scene.carried_by("sim-1")
    scene.actors.hosts = (host(2),)
    scene.wait(4)
    assert scene.actors.adopted == [("sim-2", 1)]
    scene.carried_by("sim-2")


def test_a_machine_that_does_not_come_back_to_a_new_head_has_lost_its_attempt(scene: Scene) -> None:
    scene.actors.hosts = ()
    scene.desk = scene.make()
    scene.desk.recover()
    scene.wait(RETURN_SECONDS + 2)
    scene.lost()


def test_what_is_lost_with_a_machine_that_is_taken_away_is_not_charged_and_starts_elsewhere(scene: Scene) -> None:
    leaving = replace(host(1), is_leaving=True)
    scene.actors.hosts = (leaving, host(2, "another"))
    scene.actors.left["sim-1"](Gone())
    assert scene.actors.adopted == []
    assert scene.desk.demands()["local"].rooms == (Room(cpus=8, memory=2**34),), "it is no machine of the group's"
    assert (scene.record.status, scene.record.losses) == (Status.QUEUED, 0)
    assert scene.record.task.reason is not None
    assert scene.record.task.reason.code is ReasonCode.PREEMPTED
    scene.desk.turn()
    assert scene.actors.started == ["id-1", "id-2"]


def test_a_machine_that_has_left_is_remembered_for_the_attempt_that_did_not_give_back_in_time(scene: Scene) -> None:
    scene.actors.hosts = (replace(host(1), is_leaving=True),)
    scene.wait(3)
    scene.actors.hosts = ()
    scene.wait(3)
    scene.actors.left["sim-1"](Gone())
    assert (scene.record.status, scene.record.losses) == (Status.QUEUED, 0)


def test_a_result_that_is_stored_is_taken_and_nothing_is_started(scene: Scene) -> None:
    put_outcome(scene.objects, scene.task, 1, succeeded().model_dump_json().encode())
    commit_manifest(scene.objects, scene.task, 1, [])
    scene.actors.left["sim-1"](Gone())
    assert scene.actors.adopted == []
    assert (scene.record.status, scene.record.task.result) == (Status.SUCCEEDED, 1)


def test_an_actor_that_does_not_renew_its_lease_is_ended_and_its_run_taken_over(scene: Scene) -> None:
    scene.wait(START_GRACE + LEASE + 1)
    assert scene.actors.ended == ["sim-1"]
    scene.carried_by("sim-2")
    scene.actors.left["sim-1"](Gone())  # its end is heard of late
    scene.carried_by("sim-2")
    assert len(scene.actors.adopted) == 1


@pytest.mark.parametrize("spoke", [False, True])
def test_an_actor_that_was_to_take_over_and_says_nothing_is_not_replaced(scene: Scene, *, spoke: bool) -> None:
    scene.actors.left["sim-1"](Gone())
    if spoke:
        assert scene.desk.renew(scene.task, 1) is Verdict.TAKEN
    scene.wait(START_GRACE + LEASE + 1)
    assert "sim-2" in scene.actors.ended
    if spoke:
        scene.carried_by("sim-3")
    else:
        assert (scene.record.attempt, scene.record.losses) == (2, 1)


def test_an_actor_that_dies_as_it_takes_over_is_replaced_after_ever_longer_rests(scene: Scene) -> None:
    scene.actors.left["sim-1"](Gone())
    tried_at = []
    while len(tried_at) < 7:
        newest = f"sim-{len(scene.actors.started)}"
        tried_at.append(scene.seconds)
        scene.carried_by(newest)
        scene.actors.left[newest](Gone())
        while f"sim-{len(scene.actors.started)}" == newest:
            scene.wait(1.0)
    rests = [after - before for before, after in pairwise(tried_at)]
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, LEASE]
    scene.carried_by("sim-9")
    scene.actors.left["sim-9"](Gone())
    scene.lost()


def test_who_rests_before_a_takeover_keeps_its_room_until_its_attempt_is_over(scene: Scene) -> None:
    [machine] = scene.actors.hosts
    scene.actors.left["sim-1"](Gone())
    scene.actors.left["sim-2"](Gone())
    [group] = scene.desk.groups()
    assert group.machines[0].cpus_free == machine.cpus - scene.record.task.resources.cpus
    # The report of the end was on its way when the actor died.
    assert scene.desk.report(scene.task, 1, [Report(succeeded())]) is Verdict.TAKEN
    scene.wait(3.0)
    [group] = scene.desk.groups()
    assert group.machines[0].cpus_free == machine.cpus
    assert scene.actors.started == ["id-1", "id-1"]


def test_the_end_of_an_actor_that_carries_nothing_more_begins_no_rest(scene: Scene) -> None:
    scene.actors.left["sim-1"](Gone())
    scene.actors.left["sim-1"](Gone())
    scene.wait(5.0)
    scene.carried_by("sim-2")


def test_the_room_of_an_actor_that_has_gone_is_given_to_nobody_else(scene: Scene) -> None:
    [machine] = scene.actors.hosts
    scene.actors.left["sim-1"](Gone())
    [group] = scene.desk.groups()
    assert group.machines[0].cpus_free == machine.cpus - scene.record.task.resources.cpus


@pytest.mark.parametrize("is_new", [False, True], ids=["the same head", "a head that was started anew"])
def test_a_new_dispatcher_lets_runs_be_taken_over_whose_actors_are_gone(scene: Scene, *, is_new: bool) -> None:
    if is_new:
        scene.actors.hosts = (host(7),)
    scene.seconds = 500.0
    scene.desk = scene.make()
    scene.desk.recover()
    scene.desk.turn()
    assert scene.actors.started[1:] == ["id-7" if is_new else "id-1"]
    scene.carried_by("sim-2")


def test_a_new_dispatcher_repeats_the_order_to_an_actor_that_had_not_begun_to_take_over(scene: Scene) -> None:
    scene.actors.left["sim-1"](Gone())
    kind = kind_of(scene.record)
    scene.actors.living = {"sim-2": HolderState(host="id-1", kind=kind, carries=None)}
    scene.desk = scene.make()
    scene.desk.recover()
    assert scene.actors.adopted == [("sim-2", 1), ("sim-2", 1)]
    scene.carried_by("sim-2")


def test_an_actor_that_has_gone_with_an_attempt_that_is_over_changes_nothing(scene: Scene) -> None:
    scene.desk.report(scene.task, 1, [Report(Outcome(status=Status.SUCCEEDED, stored=True))])
    before = scene.record
    scene.actors.left["sim-1"](Gone())
    assert scene.record == before
    assert scene.actors.adopted == []


def kind_of(record: TaskRecord) -> Kind:
    task = record.task
    assert task.runtime is not None
    return Kind(simulator=task.simulator, version=task.version, runtime=task.runtime, resources=task.resources)


def test_an_actor_that_was_being_made_when_the_dispatcher_died_and_has_got_nothing_keeps_no_task(scene: Scene) -> None:
    [answer] = scene.store.submit([draft()], NOW)
    assert answer.record is not None
    scene.desk.turn()
    task = scene.store.get(answer.record.id)
    assert (task.status, task.holder) == (Status.PREPARING, "sim-2")
    # Neither answers the new dispatcher in time; then one says that it carries nothing.
    scene.actors.living = {"sim-1": None, "sim-2": None}
    desk = scene.make()
    desk.recover()
    desk.turn()
    assert scene.actors.watched == [("sim-1", 1), ("sim-2", 1)]
    scene.actors.left["sim-2"](None)
    task = scene.store.get(task.id)
    assert (task.status, task.losses) == (Status.QUEUED, 0)
    scene.carried_by("sim-1")
    desk.turn()
    assert scene.actors.handed[-1] == ("sim-2", 2)


def test_that_an_actor_is_free_again_is_news_only_where_its_end_was_not_reported() -> None:
    scene = Scene()
    scene.desk.report(scene.task, 1, [Report(succeeded())])
    assert not scene.actors.left["sim-1"](None)
    superseded = Scene()
    assert superseded.actors.left["sim-1"](None)
    lost = Scene()
    assert lost.actors.left["sim-1"](Gone())


@pytest.mark.parametrize("restarts", [False, True])
def test_what_an_actor_gave_up_while_the_storage_was_away_does_not_stay_with_it(*, restarts: bool) -> None:
    objects = Away("desk")
    scene = Scene(objects=objects)
    objects.is_away = True
    scene.actors.left["sim-1"](Broken("it could not begin"))
    objects.is_away = False
    scene.carried_by("sim-1")  # it could not be written down that it does not any more
    [answer] = scene.store.submit([draft()], NOW)
    assert answer.record is not None
    scene.desk.turn()
    assert scene.actors.handed[1:] == [("sim-1", 1)]
    if restarts:
        assert scene.desk.report(answer.record.id, 1, [Report(Status.RUNNING)]) is Verdict.TAKEN
        kind = kind_of(scene.record)
        scene.actors.living = {"sim-1": HolderState(host="id-1", kind=kind, carries=(answer.record.id, 1))}
        scene.desk = scene.make()
        scene.desk.recover()
    scene.wait(2.0)
    assert scene.actors.adopted == [("sim-2", 1)]
    scene.carried_by("sim-2")
    assert scene.store.get(answer.record.id).holder == "sim-1"
    assert scene.actors.ended == []


class Away(Objects):
    """A storage that does not answer for a while."""

    is_away = False

    def head(self, key: str) -> ObjectInfo | None:
        if self.is_away:
            raise StorageUnavailable("It does not answer.")
        return super().head(key)
