"""When a queued task may start, from how long tasks like it took and how many places there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from simyard.group import MachineGroup
from simyard.resources import Resources
from tasks.record import TaskRecord
from tasks.rooms import fits_empty, fits_now

RUNS = 20
"""From so many of the newest successes of a simulator it is estimated."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An estimate and a sentence that says what it was made from."""

    start: datetime
    basis: str


def forecast(
    record: TaskRecord,
    position: int | None,
    groups: Sequence[MachineGroup],
    runs: Sequence[TaskRecord],
    now: datetime,
) -> Forecast | None:
    """Return when a queued task may start, None where that cannot be told.

    It is estimated as if all tasks were like this one: a place becomes free each time that a run takes, divided by the
    places; `position` tasks take theirs before it. `runs` are the newest successes of its simulator.
    """
    group = next((one for one in groups if one.name == record.task.group), None)
    if position is None or group is None:
        return None
    need = record.task.resources
    machines = [m for m in group.machines if m.set_aside_until is None]
    places = sum(_places(m.cpus, m.memory, m.gpus, m.disk, need) for m in machines)
    free = sum(_places(m.cpus_free, m.memory_free, m.gpus_free, m.disk_free, need) for m in machines)
    if need.whole_machine:
        places = sum(fits_empty(need, machine) for machine in machines)
        free = sum(fits_now(need, machine) for machine in machines)
    if need.machines > 1:
        places = sum(fits_empty(need, machine) for machine in machines) // need.machines
        free = sum(fits_now(need, machine) for machine in machines) // need.machines
    soonest = max(now, record.ready_at)
    if places == 0:
        return None
    if position < free:
        return Forecast(start=soonest, basis=f"a place is free in {group.name}")
    if not (took := list(_seconds(runs))):
        return None
    wait = median(took) * (position - free + 1) / places
    runs_of = f"the last run of {record.task.simulator}"
    if len(took) > 1:
        runs_of = f"the last {len(took)} runs of {record.task.simulator}"
    basis = f"{runs_of} took {median(took):.3g} s, and {group.name} has {_places_text(places)} for such tasks"
    return Forecast(start=max(now + timedelta(seconds=wait), soonest), basis=basis)


def _places(cpus: float, memory: int, gpus: int, disk: int | None, need: Resources) -> int:
    """Return how many tasks with that need fit together."""
    fits = [int(cpus / need.cpus + 1e-6), memory // need.memory]
    if need.gpus:
        fits.append(gpus // need.gpus)
    if need.reserved_disk and disk is not None:
        fits.append(disk // need.reserved_disk)
    return min(fits)


def _seconds(runs: Iterable[TaskRecord]) -> Iterable[float]:
    """Give how long each run held its place."""
    for record in runs:
        if record.task.ended_at is not None and record.task.attempts:
            yield max(0.0, (record.task.ended_at - record.task.attempts[-1].created_at).total_seconds())


def _places_text(places: int) -> str:
    return "1 place" if places == 1 else f"{places} places"
