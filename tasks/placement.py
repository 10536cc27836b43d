"""Which queued task goes next and where: decided from plain data, with no clock, no network and no Ray."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from simyard.group import Machine, Offer
from simyard.resources import MIB, Resources
from simyard.simulator import RuntimeName


class Environment(NamedTuple):
    """What a machine must have before it can run a task: an image, or a private Python environment."""

    simulator: str
    version: str
    runtime: RuntimeName


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a warm actor is good for: tasks of exactly this simulator and these resources."""

    simulator: str
    version: str
    runtime: RuntimeName
    resources: Resources
    """Of a whole machine, once it stands on one: what that machine has."""

    @property
    def environment(self) -> Environment:
        """What its machine must have."""
        return Environment(self.simulator, self.version, self.runtime)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine and all that it offers to tasks."""

    id: str
    name: str = ""
    """What people call it."""
    group: str
    cpus: float
    memory: int
    gpus: int
    node_type: str = ""
    """Of the cluster file; empty where it is in none."""
    disk: float = math.inf
    """Bytes that tasks may reserve together; infinite where the machine has not said."""
    environments: frozenset[Environment] = frozenset()
    """What it is known to have in place."""
    is_set_aside: bool = False
    """It gets no tasks for a time."""
    is_leaving: bool = False
    """It is being taken away, and gets no tasks any more."""

    @property
    def takes_tasks(self) -> bool:
        """Say whether tasks may start on it."""
        return not (self.is_set_aside or self.is_leaving)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A Simulator actor that holds its resources on a machine, whether it works or waits."""

    name: str
    host: str
    kind: Kind
    idle_since: float | None
    """Seconds; None while it carries a task or has not started."""
    others: tuple[str, ...] = ()
    """The other machines whose resources its task holds, where that runs on several."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """All machines on which it holds resources."""
        return (self.host, *self.others)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A queued task, as far as placing it needs."""

    task: str
    group: str
    kind: Kind
    near: tuple[str, ...] = ()
    """Ids of machines that have inputs of it, a few at most."""


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Give the task to a warm actor."""

    task: str
    holder: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start an actor on the machine and give it the task."""

    task: str
    host: str
    kind: Kind
    others: tuple[str, ...] = ()
    """The other machines of a task that runs on several."""


@dataclass(frozen=True, kw_only=True)
class Retire:
    """End an idle actor."""

    holder: str


Action = Reuse | Start | Retire
_SMALLEST = Resources(cpus=0.01, memory=16 * MIB)
"""The least that a task may ask for."""


@dataclass(eq=False)
class _Room:
    """What is left on a machine while a plan is made."""

    host: Host
    cpus: float
    memory: int
    gpus: int
    disk: float
    idle: list[Holder] = field(default_factory=list)
    is_busy: bool = False
    """Whether it carries a task."""
    is_kept: bool = False
    """Whether it is kept free for a large task."""

    @classmethod
    def of(cls, host: Host) -> _Room:
        return cls(host, host.cpus, host.memory, host.gpus, host.disk)

    def fits(self, need: Resources) -> bool:
        # Cores may be fractions: a sum of tenths must not fail by a rounding error.
        return (
            need.cpus <= self.cpus + 1e-6
            and need.memory <= self.memory
            and need.gpus <= self.gpus
            and need.reserved_disk <= self.disk
        )

    def take(self, need: Resources, sign: int = 1) -> None:
        need = taken(need, self.host)
        self.cpus -= sign * need.cpus
        self.memory -= sign * need.memory
        self.gpus -= sign * need.gpus
        self.disk -= sign * need.reserved_disk


def placed(kind: Kind, *hosts: Host) -> Kind:
    """Return what a task takes of each of its machines: what it asks for, or all that the machine offers."""
    if not kind.resources.whole_machine:
        return kind
    return replace(kind, resources=whole(kind.resources, *hosts))


def whole(need: Resources, *machines: Host | Machine | Offer) -> Resources:
    """Return the resources of a task that has these machines for itself: of each what the smallest one has."""
    least = {name: min(getattr(one, name) for one in machines) for name in ("cpus", "memory", "gpus")}
    return need.model_copy(update=least)


def taken(need: Resources, host: Host) -> Resources:
    """Return what a task that runs takes of one of its machines: all of it where it has that for itself.

    Of several machines that differ it uses what the smallest one has, and nobody else gets the rest.
    """
    return whole(need, host) if need.whole_machine else need


def free_places(hosts: Sequence[Host], holders: Iterable[Holder]) -> int:
    """Return about how many tasks of one core could start now: where machines have room left, and for idle actors.

    It is 0 only where no task at all could.
    """
    rooms = {host.id: _Room.of(host) for host in hosts if host.takes_tasks}
    places = 0.0
    for holder in holders:
        if holder.idle_since is not None and holder.kind.resources.machines > 1:
            continue
        for room in [rooms[host] for host in holder.hosts if host in rooms]:
            room.take(holder.kind.resources)
            if holder.idle_since is not None:
                places += holder.kind.resources.cpus
    places += sum(room.cpus for room in rooms.values() if room.fits(_SMALLEST))
    return math.ceil(places)


def plan(
    queue: Iterable[Candidate],
    hosts: Sequence[Host],
    holders: Sequence[Holder],
    *,
    now: float,
    warm: float,
    started: Callable[[str], object] = lambda _: None,
) -> list[Action]:
    """Return what to do now, in order, for a queue that stands in the order in which tasks may start.

    Warm actors come first, then machines that carry something, so that the others can end; of these the ones that have
    the task's environment, of these those that have its inputs, and then the fullest. A task that fits nowhere reserves
    the machine that could hold it soonest, so that smaller tasks behind it cannot keep it waiting for ever. One that
    runs on several machines gets all of them or none, and as many are kept for it. Idle actors end when their room is
    needed, after `warm` seconds, and with their machine. Of the queue only as much is taken as can matter; before the
    next task is asked for, `started` is told of the one that got a place.
    """
    rooms = {host.id: _Room.of(host) for host in hosts}
    actions: list[Action] = []
    for holder in holders:
        has = [rooms[host] for host in holder.hosts if host in rooms]
        # One of a task over several machines has given the other ones back, and no task takes it as it is.
        if holder.idle_since is not None and (not has or holder.kind.resources.machines > 1):
            actions.append(Retire(holder=holder.name))
            continue
        for room in has:
            room.take(holder.kind.resources)
            if holder.idle_since is not None:
                room.idle.append(holder)
            else:
                room.is_busy = True
    groups: dict[str, _Group] = {}
    for room in rooms.values():
        if room.host.takes_tasks:
            groups.setdefault(room.host.group, _Group()).add(room)
    for candidate in queue:
        group = groups.get(candidate.group)
        if group is not None and group.open:
            found = group.place(candidate)
            if found:
                started(candidate.task)
            actions += found
        if not any(group.open for group in groups.values()):
            break
    for room in rooms.values():
        for holder in room.idle:
            if holder.idle_since is not None and now - holder.idle_since >= warm:
                actions.append(Retire(holder=holder.name))
    return actions


class _Group:
    """The machines of a group that no large task waits for, while a plan is made.

    Machines only become fuller meanwhile, so what is known of them for a kind of task is kept: a queue of like tasks
    costs no look at every machine for each.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, _Room] = {}
        self.open: set[str] = set()
        """Those on which some task could start."""
        self._warm: dict[Kind, deque[tuple[_Room, Holder]]] = {}
        self._fitting: dict[Kind, list[_Room]] = {}
        """Those that had room for a task of this kind when it was first asked for, the best one last."""
        self._hopeless: set[Kind] = set()
        """Those for which no machine has room, nor could it be made."""
        self._able: dict[Kind, list[tuple[float, float, str]]] = {}
        """A heap of those that could hold one, the one that can soonest first: cores and memory, negative, and id."""

    def add(self, room: _Room) -> None:
        self.rooms[room.host.id] = room
        self.open.add(room.host.id)
        self._look_at(room)
        for holder in room.idle:
            warm = self._warm.setdefault(holder.kind, deque())
            # Those of machines that carry something are taken first.
            (warm.append if room.is_busy else warm.appendleft)((room, holder))

    def place(self, candidate: Candidate) -> list[Action]:
        """Return how the task gets a place; nothing where it waits, for a machine that is kept free for it then."""
        kind = candidate.kind
        if kind.resources.machines > 1:
            return self._place_on_several(candidate)
        for wanted in self._kinds(kind):
            if (holder := self._take_warm(wanted, candidate.near)) is not None:
                return [Reuse(task=candidate.task, holder=holder.name)]
        if kind not in self._hopeless:
            if (room := self._find(kind)) is not None:
                return [self._start(candidate, self._nearer(candidate, room))]
            for room in self.rooms.values():
                retired = _make_room(room, placed(kind, room.host).resources) if room.idle else None
                if retired is not None:
                    # More may have become free than is taken now.
                    self._fitting.clear()
                    return [*(Retire(holder=holder.name) for holder in retired), self._start(candidate, room)]
            self._hopeless.add(kind)
        self._keep_for(kind)
        return []

    def _place_on_several(self, candidate: Candidate) -> list[Action]:
        kind, count = candidate.kind, candidate.kind.resources.machines
        if kind not in self._hopeless:
            rooms = sorted(self.rooms.values(), key=_order(kind.environment))
            found = [room for room in rooms if _has_room(room, kind)]
            freed = {
                room.host.id: retired
                for room in rooms
                if room not in found and (retired := _idle_to_end(room, placed(kind, room.host).resources)) is not None
            }
            chosen = [*found, *(room for room in rooms if room.host.id in freed)][:count]
            if len(chosen) == count:
                ended = [holder for room in chosen for holder in freed.get(room.host.id, ())]
                for room in chosen:
                    _end_idle(room, freed.get(room.host.id, ()))
                if ended:
                    self._fitting.clear()
                return [*(Retire(holder=holder.name) for holder in ended), self._start(candidate, *chosen)]
            self._hopeless.add(kind)
        # Fewer machines than it needs are kept for nobody: until there are more, others may have them.
        if sum(_could_hold(room, kind) for room in self.rooms.values()) >= count:
            for _ in range(count):
                self._keep_for(kind)
        return []

    def _kinds(self, kind: Kind) -> Iterable[Kind]:
        """Return the kinds of warm actors that can take such a task."""
        if not kind.resources.whole_machine:
            return (kind,)
        return [warm for warm in self._warm if _has_whole_machine_for(kind, warm)]

    def _take_warm(self, kind: Kind, near: tuple[str, ...]) -> Holder | None:
        warm = self._warm.get(kind)
        while warm:
            room, holder = warm.pop()
            # It may end for another task, or its machine be kept for one.
            if holder in room.idle and not room.is_kept:
                if (other := self._warm_and_near(kind, near, room)) is not None:
                    warm.append((room, holder))
                    room, holder = other
                room.idle.remove(holder)
                room.is_busy = True
                self._look_at(room)
                return holder
        return None

    def _warm_and_near(self, kind: Kind, near: tuple[str, ...], room: _Room) -> tuple[_Room, Holder] | None:
        """Return a warm actor on a machine that has the inputs, where this one has not and is no better otherwise."""
        if room.host.id in near:
            return None
        found = (self.rooms[host] for host in near if host in self.rooms)
        return next(((r, h) for r in found if r.is_busy >= room.is_busy for h in r.idle if h.kind == kind), None)

    def _nearer(self, candidate: Candidate, room: _Room) -> _Room:
        """Return a machine that has the task's inputs, where this one has not and is no better otherwise."""
        if room.host.id in candidate.near:
            return room
        kind, order = candidate.kind, _order(candidate.kind.environment)
        able = [
            near
            for host in candidate.near
            if (near := self.rooms.get(host)) is not None
            and order(near)[:2] <= order(room)[:2]
            and _has_room(near, kind)
        ]
        return min(able, key=lambda near: (near.cpus, near.memory), default=room)

    def _find(self, kind: Kind) -> _Room | None:
        fitting = self._fitting.get(kind)
        if fitting is None:
            found = [room for room in self.rooms.values() if _has_room(room, kind)]
            fitting = self._fitting[kind] = sorted(found, key=_order(kind.environment))[::-1]
        while fitting:
            room = fitting[-1]
            # Once it has the first one, it is the fullest one until nothing more fits.
            if not room.is_kept and room.fits(placed(kind, room.host).resources):
                return room
            fitting.pop()
        return None

    def _keep_for(self, kind: Kind) -> None:
        """Keep the machine free that can hold such a task soonest."""
        able = self._able.get(kind)
        if able is None:
            able = [(*_soonest(room), host) for host, room in self.rooms.items() if _could_hold(room, kind)]
            heapify(able)
            self._able[kind] = able
        while able:
            *known, host = heappop(able)
            room = self.rooms.get(host)
            if room is None:
                continue
            # What was placed there meanwhile only puts it back.
            if (now := _soonest(room)) > tuple(known):
                heappush(able, (*now, host))
                continue
            room.is_kept = True
            del self.rooms[host]
            self.open.discard(host)
            return

    def _start(self, candidate: Candidate, *rooms: _Room) -> Start:
        first, *others = (room.host.id for room in rooms)
        kind = placed(candidate.kind, *(room.host for room in rooms))
        for room in rooms:
            room.take(kind.resources)
            room.is_busy = True
            self._look_at(room)
        return Start(task=candidate.task, host=first, kind=kind, others=tuple(others))

    def _look_at(self, room: _Room) -> None:
        if not room.idle and not room.fits(_SMALLEST):
            self.open.discard(room.host.id)


def _has_whole_machine_for(kind: Kind, warm: Kind) -> bool:
    has, need = warm.resources, kind.resources
    return has.whole_machine and has.disk == need.disk and warm.environment == kind.environment


def _soonest(room: _Room) -> tuple[float, float]:
    return -(room.cpus + sum(holder.kind.resources.cpus for holder in room.idle)), -room.memory


def _order(environment: Environment) -> Callable[[_Room], tuple[bool, bool, float, int]]:
    def order(room: _Room) -> tuple[bool, bool, float, int]:
        # The fullest one that still has room, so that whole machines stay free for large tasks.
        return not room.is_busy, environment not in room.host.environments, room.cpus, room.memory

    return order


def _could_hold(room: _Room, kind: Kind) -> bool:
    """Say whether a machine could hold such a task when it holds nothing else."""
    return _has_room(_Room.of(room.host), kind)


def _has_room(room: _Room, kind: Kind) -> bool:
    """Say whether a machine has room for such a task beside what it holds."""
    return room.fits(placed(kind, room.host).resources)


def _make_room(room: _Room, need: Resources) -> list[Holder] | None:
    """Give the need the room of idle actors and return those to end; None, and nothing done, where it is not enough."""
    retired = _idle_to_end(room, need)
    if retired is not None:
        _end_idle(room, retired)
    return retired


def _end_idle(room: _Room, retired: Iterable[Holder]) -> None:
    for gone in retired:
        room.take(gone.kind.resources, sign=-1)
        room.idle.remove(gone)


def _idle_to_end(room: _Room, need: Resources) -> list[Holder] | None:
    """Return the idle actors to end, longest idle first, so that the need fits; None when that is not enough."""
    if not room.idle:
        return None
    trial = replace(room)
    retired: list[Holder] = []
    for holder in sorted(room.idle, key=lambda h: h.idle_since or 0.0):
        retired.append(holder)
        trial.take(holder.kind.resources, sign=-1)
        if trial.fits(need):
            return retired
    return None
