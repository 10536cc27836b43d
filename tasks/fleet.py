"""Lets the machine groups of a cluster follow the queue, by way of Ray's autoscaler."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cluster.cluster_file import ClusterFile, Group, groups_of, live_document
from cluster.fleet import Demand, Room, split, together, wanted
from cluster.group_record import GroupRecord, with_records
from cluster.launches import Trouble, read_troubles
from simulators.wanted_images import WantedImage, tell
from simyard.errors import SimyardError
from simyard.group import GroupState, LaunchTrouble, MachineGroup, Market, Offer
from storage.objects import ObjectStore
from tasks.group_life import gone_on
from tasks.record import TaskRecord
from tasks.rooms import known
from tasks.rules import Pause
from tasks.stimulus import Cancel
from tasks.store import Store

log = logging.getLogger(__name__)

_TELL_AGAIN = timedelta(minutes=10)


class Fleet:
    """Asks the autoscaler for as many machines of each group as its tasks need, and brings groups to their end.

    Args:
        file: the autoscaler's file.
        store: where the groups are that were made by a command.
        head: address of Ray's head, for machines that join.
        environment: what the processes of a machine need to know.
        now: gives the time, with its zone.
        objects: the storage, where it is told which images new machines will need; None where it is on each machine.
    """

    def __init__(
        self,
        file: ClusterFile,
        store: Store,
        head: str,
        environment: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        objects: ObjectStore | None = None,
    ) -> None:
        self._objects = objects
        self._told: dict[str, tuple[datetime, frozenset[WantedImage]]] = {}
        """When it was told of each group which images its machines need, and which."""
        self._file, self._store, self._head, self._environment = file, store, head, environment
        self._now = now
        self._written: tuple[object, ...] | None = None
        self._totals: Mapping[str, int] = {}
        self._chosen: dict[str, str] = {}
        """The node type that each MPI group has its machines of."""
        self._disks: dict[str, float] = {}
        """What the machines of each group were found to offer of their disks."""

    def look(self, demands: Callable[[], Mapping[str, Demand]]) -> None:
        """Write what is wanted now, where that has changed; a file that cannot be read is left as it is."""
        try:
            asked = demands()
            self._disks |= {group: one.disk for group, one in asked.items() if one.disk is not None}
            records = self._go_on({name: len(demand.rooms) for name, demand in asked.items()})
            document = with_records(self._file.read(), records)
            groups, troubles = groups_of(document), read_troubles(self._file.launches)
            now = self._now()
            waits = {name for name, trouble in troubles.items() if trouble.next_try > now.timestamp()}
            sizes: dict[str, int] = {}
            totals: dict[str, int] = {}
            for group in groups:
                demand = asked.get(group.name, Demand())
                total = wanted(demand, self._shape(group), group.least, group.most)
                types = [one.name for one in group.types]
                if group.mpi:
                    total = group.most if total else 0
                    sizes |= self._together(group.name, total, types, demand, waits)
                else:
                    sizes |= split(total, types, {one.name: one.most for one in group.types}, demand.there, waits)
                totals[group.name] = total
                if total > len(demand.rooms):
                    self._tell(group.name, demand.images, now)
            self._totals = totals
            self._write(document, sizes)
        except SimyardError as error:
            log.warning("the groups' sizes cannot be changed: %s", error)

    def _tell(self, group: str, images: frozenset[WantedImage], now: datetime) -> None:
        """Tell machines that are on their way which images they will need; nothing waits for it."""
        at, before = self._told.get(group, (now, frozenset[WantedImage]()))
        if self._objects is None or not images or (images == before and now - at < _TELL_AGAIN):
            return
        self._told[group] = now, images

        def run(objects: ObjectStore) -> None:
            try:
                tell(objects, group, images, now)
            except SimyardError as error:
                log.warning("which images the machines of %s need could not be told: %s", group, error)
                self._told.pop(group, None)

        threading.Thread(target=run, args=(self._objects,), name="images", daemon=True).start()

    def _together(
        self, group: str, total: int, types: Sequence[str], demand: Demand, waits: Collection[str]
    ) -> dict[str, int]:
        """Return the sizes of an MPI group's node types: all of one, or none."""
        busy = any(room.is_busy for room in demand.rooms)
        chosen = together(total, types, demand.there, waits, self._chosen.get(group), busy=busy)
        if chosen is None:
            self._chosen.pop(group, None)
        else:
            self._chosen[group] = chosen
        return {name: total if name == chosen else 0 for name in types}

    def _write(self, document: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        # Where nothing is asked anew the file stands as it is; it may be another one's since `ray up`.
        now = (document, sizes, self._file.stamp())
        if now == self._written:
            return
        if self._file.write(live_document(document, sizes, self._head, self._environment, self._file.launches)):
            log.info("machines wanted: %s", {name: size for name, size in sizes.items() if size})
        self._written = (document, sizes, self._file.stamp())

    def groups(self, found: Sequence[MachineGroup]) -> tuple[MachineGroup, ...]:
        """Return the groups that have machines, and those that have none now, with what is known of each."""
        try:
            records = [one for one in self._store.group_records() if one.ended_at is None]
            declared = groups_of(with_records(self._file.read(), records))
        except SimyardError as error:
            log.warning("the groups of the cluster cannot be told: %s", error)
            return tuple(found)
        troubles = read_troubles(self._file.launches)
        told = [_described(one, self._shape(one), records, self._totals.get(one.name), troubles) for one in declared]
        return with_declared(found, told)

    def _shape(self, group: Group) -> Room:
        """Return what its machines offer; of their disks what they really have, which is less than what was ordered."""
        shape = group.shape
        return replace(shape, disk=min(shape.disk, self._disks.get(group.name, shape.disk)))

    def _go_on(self, machines: Mapping[str, int]) -> list[GroupRecord]:
        """Return the groups that were made by a command, each a step further where its time has come."""
        records, active = self._store.group_records(), None
        kept = []
        for record in records:
            spec, now = record.spec, self._now()
            is_going = record.ending_since is None and (spec.ends_at is None or spec.ends_at > now)
            if not is_going and active is None:
                active = self._store.active()
            running = [] if active is None else [one for one in active if one.task.group == spec.name]
            after = gone_on(record, now, len(running), machines.get(spec.name, 0))
            if after is None:
                self._store.forget_group(record.id)
                continue
            if after.ending_since is not None and record.ended_at is None:
                self._end(after, running, now)
            if after != record:
                self._store.put_group(after, record)
                log.info("group %s: %s", spec.name, after.model_dump_json(exclude={"spec"}, exclude_none=True))
            kept.append(after)
        return kept

    def _end(self, record: GroupRecord, running: Sequence[TaskRecord], now: datetime) -> None:
        pause = Pause(group=record.spec.name)
        is_paused = pause in self._store.rules(now).pauses
        if record.ended_at is None and not is_paused:
            self._store.pause(pause)
        elif record.ended_at is not None:
            # Before its end is kept: a group of that name that is made later must not be paused.
            self._store.resume(pause)
        if record.stops:
            for one in running:
                if not one.task.cancel_requested:
                    self._store.apply(one.id, Cancel(), now)


def _described(
    group: Group,
    shape: Room,
    records: Collection[GroupRecord],
    total: int | None,
    troubles: Mapping[str, Trouble],
) -> MachineGroup:
    """Return what is known of a group besides its machines; `records` are those of groups that have not ended."""
    record = next((one for one in records if one.spec.name == group.name), None)
    markets = [one.market for one in group.types]
    made = MachineGroup(
        name=group.name,
        machine_type=group.types[0].machine_type,
        machine_types=tuple(dict.fromkeys(one.machine_type for one in group.types)),
        market=markets[0],
        min=group.least,
        max=group.most,
        offers=Offer(cpus=shape.cpus, memory=shape.memory, gpus=shape.gpus, disk=known(shape.disk)),
        idle=group.idle,
        wanted=total,
        troubles=tuple(
            _told(trouble, one.machine_type, one.market)
            for one in group.types
            if (trouble := troubles.get(one.name)) is not None
        ),
    )
    if record is None:
        return made
    spec = record.spec
    said = {"user": record.user, "market": spec.market, "ends_at": spec.ends_at, "disk": spec.disk, "mpi": spec.mpi}
    state = GroupState.READY if record.ending_since is None else GroupState.ENDING
    return made.model_copy(update=said | {"state": state})


def _told(trouble: Trouble, machine_type: str, market: Market) -> LaunchTrouble:
    return LaunchTrouble(
        code=trouble.code,
        message=trouble.message,
        fix=trouble.fix,
        machine_type=machine_type,
        market=market,
        count=trouble.count,
        since=datetime.fromtimestamp(trouble.since, UTC),
        next_try=datetime.fromtimestamp(trouble.next_try, UTC),
    )


def with_declared(groups: Sequence[MachineGroup], declared: Sequence[MachineGroup]) -> tuple[MachineGroup, ...]:
    """Return the groups, those that have no machine now among them, with what is known of each."""
    told = {one.name: one for one in declared}
    for group in groups:
        one = told.get(group.name)
        told[group.name] = group if one is None else one.model_copy(update={"machines": group.machines})
    return tuple(told[name] for name in sorted(told))
