"""What the machine groups are asked for: the machines that are busy, and the queued tasks that may start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from cluster.fleet import Demand, Room
from simyard.resources import Resources
from tasks.placement import Holder, Host
from tasks.shares import Line, Shares
from tasks.store import Store

_LOOKED_AT = 1000
"""How many queued tasks are looked at; of the others only their number."""


def demands(
    store: Store, hosts: Sequence[Host], holders: Iterable[Holder], shares: Shares, now: datetime
) -> dict[str, Demand]:
    """Return what each group is asked for that has a machine or a queued task.

    Tasks that a pause or a quota keeps back ask for nothing.
    """
    rooms: dict[str, list[Room]] = {}
    there: dict[str, Counter[str]] = {}
    carried: dict[str, list[Resources]] = {}
    for holder in holders:
        # An idle actor makes room when a task needs it.
        if holder.idle_since is None:
            carried.setdefault(holder.host, []).append(holder.kind.resources)
    for host in hosts:
        taken = carried.get(host.id, [])
        room = Room(
            cpus=host.cpus - sum(need.cpus for need in taken),
            memory=host.memory - sum(need.memory for need in taken),
            gpus=host.gpus - sum(need.gpus for need in taken),
            is_busy=bool(taken),
        )
        rooms.setdefault(host.group, []).append(room)
        there.setdefault(host.group, Counter())[host.node_type] += 1
    queue = store.queue(now, _LOOKED_AT)
    waiting: dict[str, list[Resources]] = {}
    line = Line(queue, shares, store.rules())
    for record in line:
        line.started(record)
        waiting.setdefault(record.task.group, []).append(record.task.resources)
    # What is kept back is in the numbers, too: they count only where nothing is.
    is_all_given = sum(map(len, waiting.values())) == len(queue)
    counts = store.queued() if len(queue) >= _LOOKED_AT and is_all_given else {}
    return {
        group: Demand(
            rooms=tuple(rooms.get(group, ())),
            waiting=tuple(waiting.get(group, ())),
            waiting_count=max(counts.get(group, 0), len(waiting.get(group, ()))),
            there=there.get(group, {}),
        )
        for group in rooms.keys() | waiting.keys()
    }
