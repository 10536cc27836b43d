"""The queue as lanes, one for each user's project in a machine group: so that a long one hides no other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tasks.record import Lane, TaskRecord


class Waiting(NamedTuple):
    """What waits in one lane, seen from a task of the same machine group."""

    user: str
    project: str
    before: int
    """Tasks of a higher priority."""
    level: int
    """Tasks of the same priority; in the task's own lane only the older ones."""


def share(limit: int, lanes: int) -> int:
    """Return how many tasks of each lane a look at the queue takes, so that it takes about `limit` together."""
    return max(1, limit // max(1, lanes))


def merged(found: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Return what was found in the lanes, by priority, highest first, then by age."""
    return sorted(found, key=lambda record: (-record.task.priority, record.seq))


def position(waiting: Sequence[Waiting], mine: Lane) -> int:
    """Return about how many tasks of its group start before a task of lane `mine`.

    Users take turns, and so do each user's projects: while a lane gives its first n tasks, another one with which it
    takes turns gives at most one more. So it is exact for a lane that is alone, and else what it may be at most while
    nobody runs more than others.
    """
    ahead = sum(lane.before for lane in waiting)
    older = sum(lane.level for lane in waiting if (lane.user, lane.project) == (mine.user, mine.project))
    own = older
    others: dict[str, int] = {}
    for lane in waiting:
        if lane.user != mine.user:
            others[lane.user] = others.get(lane.user, 0) + lane.level
        elif lane.project != mine.project:
            own += min(lane.level, older + 1)
    return ahead + own + sum(min(level, own + 1) for level in others.values())
