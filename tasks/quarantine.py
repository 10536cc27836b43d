"""Machines on which different tasks fail fast, set aside for a time: decided from plain data, with no clock and no Ray.

A machine is at fault, and not the tasks, when `TASKS` different tasks have failed there within `QUICK` of their start
or before it, none that was begun later has done well there, and at least one other machine of the group is well. So
the last machine of a group is never set aside, and neither are machines whose tasks fail wherever they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

QUICK = timedelta(seconds=10)
"""A task that fails sooner after the start of its commands, or before it, fails fast."""
TASKS = 3
"""So many different tasks must have failed fast."""
WINDOW = timedelta(minutes=10)
"""Within this time."""
FIRST, LONGEST = timedelta(minutes=5), timedelta(hours=2)
"""For how long a machine is set aside: doubling from the first time to the longest, until a task does well there."""
_KEPT = 100
_SEEN = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An attempt that failed fast."""

    task: str
    attempt: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A machine that gets no tasks for a time, for the `times`-th time in a row."""

    until: datetime
    times: int


@dataclass(frozen=True, kw_only=True)
class Well:
    """A machine on which an attempt succeeded or lived longer than `QUICK`."""

    started: datetime
    """When the newest of such attempts was started."""
    seen: datetime
    """When one was seen last, to the minute."""


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """What is known of the machines, by name; what it forgets with its process it learns again."""

    failures: Mapping[str, tuple[Failure, ...]] = field(default_factory=dict)
    aside: Mapping[str, SetAside] = field(default_factory=dict)
    well: Mapping[str, Well] = field(default_factory=dict)

    def set_aside(self, groups: Mapping[str, str], now: datetime) -> dict[str, datetime]:
        """Return the machines that get no tasks, and until when; `groups` has the group of every machine there is.

        Where all others of a group have left meanwhile, its last ones get tasks again.
        """
        open_groups = {group for machine, group in groups.items() if self._until(machine, now) is None}
        found = {name: self._until(name, now) for name, group in groups.items() if group in open_groups}
        return {name: until for name, until in found.items() if until is not None}

    def _until(self, machine: str, now: datetime) -> datetime | None:
        found = self.aside.get(machine)
        return found.until if found is not None and now < found.until else None

    def did_well(self, machine: str, started: datetime, now: datetime) -> Quarantine:
        """Return what is known when an attempt, started at that moment, succeeds or has lived longer than `QUICK`."""
        before = self.well.get(machine)
        if before is not None and started <= before.started and now < before.seen + _SEEN:
            return self
        started = started if before is None else max(started, before.started)
        well = self.well
        if before is None:
            # Only a new one makes it grow.
            well = {name: found for name, found in well.items() if now < found.seen + WINDOW}
        aside = self.aside
        if machine in aside and started >= aside[machine].until:
            aside = {name: found for name, found in aside.items() if name != machine}
        return replace(self, well={**well, machine: Well(started=started, seen=now)}, aside=aside)

    def failed_fast(
        self, machine: str, groups: Mapping[str, str], failure: Failure
    ) -> tuple[Quarantine, tuple[Failure, ...]]:
        """Return what is known after a failure, and the failures that the machine and not the tasks are charged with.

        What is known of machines that are not among the `groups` is forgotten.
        """
        now = failure.at
        known = self._of(groups, now)
        if machine not in groups:
            return known, ()
        earlier = (f for f in known.failures.get(machine, ()) if f.task != failure.task)
        known = replace(known, failures={**known.failures, machine: (*earlier, failure)[-_KEPT:]})
        if machine in known.set_aside(groups, now):
            return known, (failure,)
        last = known.aside.get(machine)
        mine = tuple(f for f in known.failures[machine] if last is None or f.at >= last.until)
        elsewhere = {f.task for name, found in known.failures.items() if name != machine for f in found}
        if len({f.task for f in mine} - elsewhere) < TASKS:
            return known, ()
        peers = [name for name, group in groups.items() if group == groups[machine] and name != machine]
        if not any(known._is_well(peer, now) for peer in peers):
            return known, ()
        times = 1 if last is None else last.times + 1
        until = now + min(FIRST * 2 ** min(times - 1, 16), LONGEST)
        aside = {**known.aside, machine: SetAside(until=until, times=times)}
        return replace(known, aside=aside), mine

    def _is_well(self, machine: str, now: datetime) -> bool:
        """Say whether a machine does well at present, and not several tasks failed fast there too."""
        if self._until(machine, now) is not None or machine not in self.well:
            return False
        return len(self.failures.get(machine, ())) < TASKS - 1

    def _of(self, groups: Mapping[str, str], now: datetime) -> Quarantine:
        """Return what still counts: of machines that are there, and not too long ago."""
        well = {name: found for name, found in self.well.items() if name in groups and now < found.seen + WINDOW}
        failures = {}
        for name, found in self.failures.items():
            # One that was started after a failure and did well speaks for the machine.
            since = max(now - WINDOW, well[name].started) if name in well else now - WINDOW
            if name in groups and (kept := tuple(f for f in found if f.at > since)):
                failures[name] = kept
        # A machine that fails again soon after it came back is set aside for longer.
        aside = {name: found for name, found in self.aside.items() if name in groups and now < found.until + LONGEST}
        return Quarantine(failures=failures, aside=aside, well=well)
