"""What is free on the machines: as it is shown, and what a task that wants one for itself will take there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from simyard.group import Machine, MachineGroup, Offer
from simyard.resources import Resources
from tasks.placement import Holder, Host, taken, whole
from tasks.record import TaskRecord


def sized(record: TaskRecord, largest: Mapping[str, Host | Machine | Offer]) -> TaskRecord:
    """Return a queued task with what it takes at most where it wants a machine for itself.

    `largest` is the largest machine of each group, as far as one is known. Quotas and turns count what is taken.
    """
    machine = largest.get(record.task.group)
    if machine is None or not record.task.resources.whole_machine:
        return record
    resources = whole(record.task.resources, machine)
    return replace(record, task=record.task.model_copy(update={"resources": resources}))


def fits_empty(need: Resources, machine: Machine | Offer) -> bool:
    """Say whether a machine could hold a task when it holds nothing else."""
    disk = math.inf if machine.disk is None else machine.disk
    if need.whole_machine:
        return need.reserved_disk <= disk
    return (
        need.cpus <= machine.cpus
        and need.memory <= machine.memory
        and need.gpus <= machine.gpus
        and need.reserved_disk <= disk
    )


def fits_now(need: Resources, machine: Machine) -> bool:
    """Say whether a machine has room for a task beside what it holds."""
    disk = math.inf if machine.disk_free is None else machine.disk_free
    if need.whole_machine:
        is_empty = (machine.cpus_free, machine.memory_free) == (machine.cpus, machine.memory)
        return is_empty and need.reserved_disk <= disk
    return (
        need.cpus <= machine.cpus_free
        and need.memory <= machine.memory_free
        and need.gpus <= machine.gpus_free
        and need.reserved_disk <= disk
    )


def carried(holders: Iterable[Holder], hosts: Iterable[Host]) -> dict[str, list[Resources]]:
    """Return what the tasks on each machine take; an idle actor makes room when a task needs it."""
    known = {host.id: host for host in hosts}
    found: dict[str, list[Resources]] = {}
    for holder in holders:
        if holder.idle_since is None:
            for host in [known[one] for one in holder.hosts if one in known]:
                found.setdefault(host.id, []).append(taken(holder.kind.resources, host))
    return found


def groups_of(
    hosts: Iterable[Host], holders: Iterable[Holder], aside: Mapping[str, datetime], idle: Mapping[str, datetime]
) -> tuple[MachineGroup, ...]:
    """Return the groups with their machines and what is free on them.

    `aside` says until when a machine, by name, gets no tasks; `idle` since when one, by id, has had none.
    """
    hosts = list(hosts)
    on_host = carried(holders, hosts)
    groups: dict[str, list[Machine]] = {}
    for host in hosts:
        groups.setdefault(host.group, []).append(
            _machine(host, on_host.get(host.id, []), aside.get(host.name), idle.get(host.id))
        )
    return tuple(MachineGroup(name=name, machines=tuple(machines)) for name, machines in sorted(groups.items()))


def _machine(host: Host, needs: list[Resources], aside: datetime | None, idle: datetime | None) -> Machine:
    disk_free = max(0.0, host.disk - sum(one.reserved_disk for one in needs))
    return Machine(
        id=host.id,
        name=host.name,
        group=host.group,
        cpus=host.cpus,
        memory=host.memory,
        gpus=host.gpus,
        disk=known(host.disk),
        cpus_free=max(0.0, host.cpus - sum(one.cpus for one in needs)),
        memory_free=max(0, host.memory - sum(one.memory for one in needs)),
        gpus_free=max(0, host.gpus - sum(one.gpus for one in needs)),
        disk_free=known(disk_free),
        idle_since=idle,
        set_aside_until=aside,
        is_leaving=host.is_leaving,
    )


def known(disk: float) -> int | None:
    """Return the bytes of a disk; None where they are not known."""
    return None if math.isinf(disk) else int(disk)
