"""Projects: what a user's tasks that share a name use, and whether they may start."""

from __future__ import annotations

from simyard.words import Name, Word


class Project(Word):
    """A project of which tasks are queued or run, outputs are stored, or that costs this month, or is paused."""

    name: Name
    paused: bool
    """None of its tasks starts; those that run go on."""
    queued: bool
    """Whether tasks of it wait that are not held."""
    running: int
    """Tasks that hold a machine."""
    cpus: float
    """Cores that they have."""
    running_quota: int | None
    """How many tasks of it may run at a time; None: no quota."""
    cpus_quota: float | None
    """How many cores it may use at a time; None: no quota."""
    stored: int = 0
    """Bytes that its tasks' outputs take in the storage."""
    storage_quota: int | None = None
    """How many they may take before no further task of it starts; None: no quota."""
    usd_per_hour: float = 0.0
    """US dollars that what runs costs an hour, as far as prices are known."""
    usd_per_hour_quota: float | None = None
    """How many it may cost; None: no quota."""
    usd_this_month: float = 0.0
    """US dollars of what has ended in this calendar month in UTC, and of what runs."""
    usd_per_month_quota: float | None = None
    """How many they may be before no further task of it starts; None: no quota."""


class Pausing(Word):
    """Whether your tasks of a project or a machine group may start."""

    project: Name | None = None
    group: Name | None = None
    paused: bool
