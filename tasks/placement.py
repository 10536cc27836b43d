"""Which queued task goes next and where: decided from plain data, with no clock, no network and no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from simyard.resources import MIB, Resources
from simyard.simulator import RuntimeName


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a warm actor is good for: tasks of exactly this simulator and these resources."""

    simulator: str
    version: str
    runtime: RuntimeName
    resources: Resources


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


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A queued task, as far as placing it needs."""

    task: str
    group: str
    kind: Kind


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


@dataclass(frozen=True, kw_only=True)
class Retire:
    """End an idle actor."""

    holder: str


Action = Reuse | Start | Retire
_SMALLEST = Resources(cpus=0.01, memory=16 * MIB)
"""The least that a task may ask for."""


@dataclass
class _Room:
    """What is left on a machine while a plan is made."""

    host: Host
    cpus: float
    memory: int
    gpus: int
    idle: list[Holder]
    reserved: bool = False

    def fits(self, need: Resources) -> bool:
        # Cores may be fractions: a sum of tenths must not fail by a rounding error.
        return need.cpus <= self.cpus + 1e-6 and need.memory <= self.memory and need.gpus <= self.gpus

    def take(self, need: Resources, sign: int = 1) -> None:
        self.cpus -= sign * need.cpus
        self.memory -= sign * need.memory
        self.gpus -= sign * need.gpus


def has_room(hosts: Sequence[Host], holders: Iterable[Holder]) -> bool:
    """Say whether any task could start now: on a machine with room left, or in the place of an idle actor."""
    rooms = {h.id: _Room(h, h.cpus, h.memory, h.gpus, []) for h in hosts if h.takes_tasks}
    for holder in holders:
        if (room := rooms.get(holder.host)) is not None:
            if holder.idle_since is not None:
                return True
            room.take(holder.kind.resources)
    return any(room.fits(_SMALLEST) for room in rooms.values())


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

    A task that fits nowhere reserves the machine that could hold it soonest, so that smaller tasks behind it cannot
    keep it waiting for ever. Idle actors end when their room is needed, after `warm` seconds, and with their machine.
    Of the queue only as much is taken as can matter; before the next task is asked for, `started` is told of the one
    that got a place.
    """
    rooms = {h.id: _Room(h, h.cpus, h.memory, h.gpus, [], reserved=not h.takes_tasks) for h in hosts}
    actions: list[Action] = []
    for holder in holders:
        room = rooms.get(holder.host)
        if room is None:
            if holder.idle_since is not None:
                actions.append(Retire(holder=holder.name))
            continue
        room.take(holder.kind.resources)
        if holder.idle_since is not None:
            room.idle.append(holder)
    for candidate in queue:
        mine = [room for room in rooms.values() if room.host.group == candidate.group and not room.reserved]
        placed = _place(candidate, mine)
        if placed:
            started(candidate.task)
        actions += placed
        if all(room.reserved for room in rooms.values()):
            break
    for room in rooms.values():
        for holder in room.idle:
            if holder.idle_since is not None and now - holder.idle_since >= warm:
                actions.append(Retire(holder=holder.name))
    return actions


def _place(candidate: Candidate, rooms: list[_Room]) -> list[Action]:
    need = candidate.kind.resources
    for room in rooms:
        for holder in room.idle:
            if holder.kind == candidate.kind:
                room.idle.remove(holder)
                return [Reuse(task=candidate.task, holder=holder.name)]
    fitting = [room for room in rooms if room.fits(need)]
    if fitting:
        # The fullest machine that still has room, so that whole machines stay free for large tasks.
        room = min(fitting, key=lambda r: (r.cpus, r.memory))
        room.take(need)
        return [Start(task=candidate.task, host=room.host.id, kind=candidate.kind)]
    for room in rooms:
        retired = _make_room(room, need)
        if retired is not None:
            room.take(need)
            return [
                *(Retire(holder=h.name) for h in retired),
                Start(task=candidate.task, host=room.host.id, kind=candidate.kind),
            ]
    able = [room for room in rooms if _could_hold(room.host, need)]
    if able:
        max(able, key=lambda r: (r.cpus + sum(h.kind.resources.cpus for h in r.idle), r.memory)).reserved = True
    return []


def _make_room(room: _Room, need: Resources) -> list[Holder] | None:
    """Return the idle actors to end, longest idle first, so that the need fits; None when that is not enough."""
    if not room.idle:
        return None
    trial = replace(room)
    retired: list[Holder] = []
    for holder in sorted(room.idle, key=lambda h: h.idle_since or 0.0):
        retired.append(holder)
        trial.take(holder.kind.resources, sign=-1)
        if trial.fits(need):
            for gone in retired:
                room.take(gone.kind.resources, sign=-1)
                room.idle.remove(gone)
            return retired
    return None


def _could_hold(host: Host, need: Resources) -> bool:
    return need.cpus <= host.cpus + 1e-6 and need.memory <= host.memory and need.gpus <= host.gpus
