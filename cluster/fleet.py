"""How many machines each group shall have: decided from plain data, with no clock, no network and no Ray."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from simyard.resources import GIB, MIB, Resources


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one machine has left for tasks."""

    cpus: float
    memory: int
    """Bytes."""
    gpus: int = 0
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


def offered_memory(total: int) -> int:
    """Return the bytes of a machine's memory that tasks may take together: all but a tenth and what Ray needs."""
    return max(256 * MIB, int(total * 0.9) - 1 * GIB)


def wanted(demand: Demand, shape: Room, least: int, most: int) -> int:
    """Return how many machines a group shall have: those that are busy, and as many more as fit what waits.

    Tasks fill machines first fit, those that are busy before idle ones. Where only a part of the queue is known, the
    rest is taken to be like it. `shape` is what a new machine offers.
    """
    rooms = [[room.cpus, room.memory, room.gpus] for room in sorted(demand.rooms, key=lambda room: not room.is_busy)]
    used = sum(room.is_busy for room in demand.rooms)
    there, placed, known = len(rooms), 0, 0
    first_open = 0
    for need in demand.waiting:
        if need.cpus > shape.cpus + 1e-6 or need.memory > shape.memory or need.gpus > shape.gpus:
            continue  # no machine of this group is large enough
        known += 1
        for i in range(first_open, len(rooms)):
            if _fits(need, rooms[i]):
                break
        else:
            i = len(rooms)
            rooms.append([shape.cpus, shape.memory, shape.gpus])
        rooms[i][0] -= need.cpus
        rooms[i][1] -= need.memory
        rooms[i][2] -= need.gpus
        used = max(used, i + 1)
        placed += i < there
        # A machine that is full is not looked at again, or equal tasks would cost the square of their number.
        while first_open < len(rooms) and rooms[first_open][0] < 1e-6:
            first_open += 1
    left = demand.waiting_count - len(demand.waiting)
    if left > 0 and known > placed:
        used += math.ceil(left * (len(rooms) - there) / (known - placed))
    return max(least, min(most, used))


def _fits(need: Resources, room: list[float]) -> bool:
    return need.cpus <= room[0] + 1e-6 and need.memory <= room[1] and need.gpus <= room[2]


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
