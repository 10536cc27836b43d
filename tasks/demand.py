"""What the machine groups are asked for: the machines that are busy, and the queued tasks that may start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from cluster.fleet import Demand, Room
from simulators.wanted_images import WantedImage
from simyard.resources import Resources
from simyard.simulator import RuntimeName
from tasks.placement import Holder, Host
from tasks.prices import NO_PRICES, Prices
from tasks.rooms import carried, sized
from tasks.shares import Line, Shares
from tasks.store import Store

_LOOKED_AT = 1000
"""How many queued tasks are looked at; of the others only their number."""


def demands(
    store: Store,
    hosts: Sequence[Host],
    holders: Iterable[Holder],
    shares: Shares,
    now: datetime,
    largest: Mapping[str, Host] | None = None,
    prices: Prices = NO_PRICES,
) -> dict[str, Demand]:
    """Return what each group is asked for that has a machine or a queued task.

    Tasks that a pause or a quota keeps back ask for nothing. `largest` is the largest machine that each group had.
    """
    rooms: dict[str, list[Room]] = {}
    there: dict[str, Counter[str]] = {}
    disks: dict[str, float] = {}
    on_host = carried(holders, hosts)
    # An attempt that is still to be taken over after the head has died keeps its machine, too.
    lasts = [record.task.attempts[-1] for record in store.active()]
    working = {name for last in lasts for name in (last.machine, *last.others)}
    for host in hosts:
        taken = on_host.get(host.id, [])
        disks[host.group] = max(host.disk, disks.get(host.group, 0.0))
        room = Room(
            cpus=host.cpus - sum(need.cpus for need in taken),
            memory=host.memory - sum(need.memory for need in taken),
            gpus=host.gpus - sum(need.gpus for need in taken),
            disk=host.disk - sum(need.reserved_disk for need in taken),
            is_busy=bool(taken) or host.name in working,
        )
        rooms.setdefault(host.group, []).append(room)
        there.setdefault(host.group, Counter())[host.node_type] += 1
    queue = store.queue(now, _LOOKED_AT)
    waiting: dict[str, list[Resources]] = {}
    images: dict[str, set[WantedImage]] = {}
    line = Line([sized(record, largest or {}) for record in queue], shares, store.rules(now), prices)
    for record in line:
        line.started(record)
        task = record.task
        waiting.setdefault(task.group, []).append(task.resources)
        if task.runtime not in {None, RuntimeName.NATIVE}:
            images.setdefault(task.group, set()).add(WantedImage(task.simulator, task.version, str(task.runtime)))
    # What is kept back is in the numbers, too: they count only where nothing is.
    is_all_given = sum(map(len, waiting.values())) == len(queue)
    counts = store.queued() if len(queue) >= _LOOKED_AT and is_all_given else {}
    return {
        group: Demand(
            rooms=tuple(rooms.get(group, ())),
            waiting=tuple(waiting.get(group, ())),
            waiting_count=max(counts.get(group, 0), len(waiting.get(group, ()))),
            there=there.get(group, {}),
            disk=disks.get(group),
            images=frozenset(images.get(group, ())),
        )
        for group in rooms.keys() | waiting.keys()
    }
