"""How a machine group that somebody has made goes on: decided from plain data, with no clock, network or Ray."""

from __future__ import annotations

from datetime import datetime, timedelta

from cluster.group_record import GroupRecord

STOP_SECONDS = 600.0
"""How long what is cancelled at a group's end may store its outputs before its machines go all the same."""
FORGOTTEN = timedelta(hours=1)
"""How long the cluster file keeps the node types of a group that has ended."""


def gone_on(record: GroupRecord, now: datetime, running: int, machines: int) -> GroupRecord | None:
    """Return what has become of a group by now, None once it can be forgotten.

    `running` tasks are carried in it, `machines` of it are in the cluster.
    """
    spec = record.spec
    if record.ending_since is None and spec.ends_at is not None and spec.ends_at <= now:
        record = record.model_copy(update={"ending_since": now, "stops": True})
    if record.ending_since is None:
        return record
    over = record.ending_since if spec.ends_at is None else max(record.ending_since, min(spec.ends_at, now))
    if spec.ends_at is not None and spec.ends_at <= now and not record.stops:
        # It was to end when its tasks have, and its time is over before that.
        record = record.model_copy(update={"stops": True})
    is_late = record.stops and now - over >= timedelta(seconds=STOP_SECONDS)
    if record.drained_at is None and (running == 0 or is_late):
        record = record.model_copy(update={"drained_at": now})
    if record.drained_at is not None and record.ended_at is None and machines == 0:
        record = record.model_copy(update={"ended_at": now})
    if record.ended_at is not None and now - record.ended_at >= FORGOTTEN:
        return None
    return record
