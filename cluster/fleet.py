"""How many machines each group shall have: decided from plain data, with no clock, no network and no Ray."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from simulators.wanted_images import WantedImage
from simyard.resources import GIB, MIB, Resources


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one machine has left for tasks."""

    cpus: float
    memory: int
    """Bytes."""
    gpus: int = 0
    disk: float = math.inf
    """Bytes; infinite where it is not known."""
    is_busy: bool = False
    """Whether it carries a task."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a group is asked for now."""

    rooms: tuple[Room, ...] = ()
    """The machines that are there."""
    waiting: tuple[Resources, ...] = ()
    """What queued tasks that may start ask for, in their order; mostly not all of them."""
    waiting_count: int = 0
    """How many of them there are in all."""
    there: Mapping[str, int] = field(default_factory=dict)
    """The machines that are there, by node type."""
    disk: float | None = None
    """The bytes of the largest disk that one of its machines offers; None where none is there."""
    images: frozenset[WantedImage] = frozenset()
    """The images in which queued tasks that may start run."""


def offered_memory(total: int) -> int:
    """Return the bytes of a machine's memory that tasks may take together: all but a tenth and what Ray needs."""
    return max(256 * MIB, int(total * 0.9) - 1 * GIB)


def wanted(demand: Demand, shape: Room, least: int, most: int) -> int:
    """Return how many machines a group shall have: those that are busy, and as many more as fit what waits.

    Tasks fill machines first fit, those that are busy before idle ones. Where only a part of the queue is known, the
    rest is taken to be like it. `shape` is what a new machine offers.
    """
    rooms = [_Space(room) for room in sorted(demand.rooms, key=lambda room: not room.is_busy)]
    used = sum(room.is_busy for room in demand.rooms)
    there, placed, known = len(rooms), 0, 0
    first: dict[tuple[float, int, int, int, bool, int], int] = {}
    new = _Space(shape)
    for need in demand.waiting:
        if not new.fits(need) or need.machines > most:
            continue  # no machine of this group is large enough, or it never has so many
        known += 1
        like = (need.cpus, need.memory, need.gpus, need.reserved_disk, need.whole_machine, need.machines)
        # Where a task did not fit, one like it does not either, or equal tasks would cost the square of their number.
        i = first.get(like, 0)
        for number in range(need.machines):
            while i < len(rooms) and not rooms[i].fits(need):
                i += 1
            if i == len(rooms):
                rooms.append(_Space(shape))
            rooms[i].take(need)
            if number == 0:
                first[like] = i
            i += 1
        used = max(used, i)
        placed += i <= there
    left = demand.waiting_count - len(demand.waiting)
    if left > 0 and known > placed:
        used += math.ceil(left * (len(rooms) - there) / (known - placed))
    return max(least, min(most, used))


def split(
    total: int, types: Sequence[str], most: Mapping[str, int], there: Mapping[str, int], troubled: Collection[str]
) -> dict[str, int]:
    """Return how many machines of each node type of a group make the total: those that are there, and more of the best.

    `types` are the group's in the order in which they are taken, `most` how many each may have, `there` how many have
    joined. More are asked of the first that is not in trouble; where all are, of the first one, which then waits.
    Where there are too many, those that are taken last are let go first.
    """
    sizes, left = {}, total
    for name in types:
        sizes[name] = min(left, there.get(name, 0), most[name])
        left -= sizes[name]
    good = [name for name in types if name not in troubled] or list(types[:1])
    for name in good:
        more = min(left, most[name] - sizes[name])
        sizes[name] += more
        left -= more
    return sizes


def together(
    total: int,
    types: Sequence[str],
    there: Mapping[str, int],
    troubled: Collection[str],
    last: str | None,
    *,
    busy: bool,
) -> str | None:
    """Return the node type of which an MPI group is to have all of its `total` machines; None where it has none now.

    It stays with the one that it had `last`, or has most machines of, as long as these carry tasks or it is whole or in
    no trouble. Else the first that is in no trouble takes over as a whole, and what came of the other one goes.
    """
    if not total:
        return None
    most = max(types, key=lambda name: there.get(name, 0))
    stays = last if last in types else most if there.get(most) else None
    if stays is not None and (busy or stays not in troubled or there.get(stays, 0) >= total):
        return stays
    return next((name for name in types if name not in troubled), None)


class _Space:
    """What is left of a machine while tasks are counted."""

    __slots__ = ("cpus", "disk", "gpus", "is_used", "memory")

    def __init__(self, room: Room) -> None:
        self.cpus, self.memory, self.gpus, self.disk = room.cpus, room.memory, room.gpus, room.disk
        self.is_used = room.is_busy

    def fits(self, need: Resources) -> bool:
        if need.whole_machine:
            return not self.is_used and need.reserved_disk <= self.disk
        return (
            need.cpus <= self.cpus + 1e-6
            and need.memory <= self.memory
            and need.gpus <= self.gpus
            and need.reserved_disk <= self.disk
        )

    def take(self, need: Resources) -> None:
        self.is_used = True
        self.cpus = 0.0 if need.whole_machine else self.cpus - need.cpus
        self.memory -= need.memory
        self.gpus -= need.gpus
        self.disk -= need.reserved_disk
