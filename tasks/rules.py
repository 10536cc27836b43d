"""What people have said about whose tasks may start: pauses of projects and machine groups, and quotas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from simyard.cli.text import size, usd
from simyard.errors import Conflict, InvalidInput
from simyard.reason import Reason, ReasonCode
from simyard.resources import Resources
from tasks.record import Lane, TaskRecord

HOURLY, MONTHLY = "usd-per-hour", "usd-per-month"
"""What the evidence of a reason calls the quotas of cost."""
_CENT = 0.01


@dataclass(frozen=True, kw_only=True)
class Pause:
    """No task that it covers starts; None covers all. What runs goes on."""

    user: str | None = None
    project: str | None = None
    group: str | None = None

    def covers(self, lane: Lane) -> bool:
        """Say whether the tasks of a lane do not start."""
        asked = ((self.user, lane.user), (self.project, lane.project), (self.group, lane.group))
        return all(want is None or want == has for want, has in asked)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """How much of a user, or of one of the user's projects, may run, be stored and be spent; None is no limit."""

    user: str
    project: str | None = None
    running: int | None = None
    """Tasks."""
    cpus: float | None = None
    storage: int | None = None
    """Bytes of outputs: once there are as many, no further task starts."""
    usd_per_hour: float | None = None
    """US dollars an hour that what runs may cost together."""
    usd_per_month: float | None = None
    """US dollars in a calendar month in UTC: once they are spent, no further task starts."""

    @property
    def is_empty(self) -> bool:
        """Say whether it limits nothing."""
        limits = (self.running, self.cpus, self.storage, self.usd_per_hour, self.usd_per_month)
        return all(limit is None for limit in limits)

    @property
    def account(self) -> Account:
        """Whose load it limits."""
        return Account(self.user, self.project)


class Account(NamedTuple):
    """Whose tasks are counted: a user's, or those of one of the user's projects."""

    user: str
    project: str | None = None


class Load(NamedTuple):
    """What runs, of whomever."""

    running: int = 0
    cpus: float = 0.0
    usd_per_hour: float = 0.0
    """US dollars that it costs an hour, as far as prices are known."""
    usd: float = 0.0
    """US dollars that it has cost so far."""

    def plus(self, need: Resources, usd_per_hour: float = 0.0, usd: float = 0.0) -> Load:
        """Return the load with one task more, which costs so much an hour and has cost so much."""
        return self.with_load(Load(1, need.all_cpus, usd_per_hour, usd))

    def with_load(self, more: Load) -> Load:
        """Return both together."""
        hourly, usd = self.usd_per_hour + more.usd_per_hour, self.usd + more.usd
        return Load(self.running + more.running, self.cpus + more.cpus, hourly, usd)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All pauses and quotas."""

    pauses: frozenset[Pause] = frozenset()
    quotas: tuple[Quota, ...] = ()
    stored: Mapping[Account, int] = field(default_factory=dict)
    """Bytes of outputs that the accounts have; empty where no quota limits them."""
    spent: Mapping[Account, float] = field(default_factory=dict)
    """US dollars that attempts of the accounts cost which ended this month; empty where no quota limits them."""

    def pause_of(self, lane: Lane) -> Pause | None:
        """Return a pause that keeps the tasks of a lane from starting."""
        covering = (pause for pause in self.pauses if pause.covers(lane))
        return min(covering, key=lambda p: (p.user or "", p.group or "", p.project or ""), default=None)

    def quotas_of(self, record: TaskRecord) -> Iterator[Quota]:
        """Give the quotas that a task counts for: its user's and its project's."""
        mine = accounts_of(record.lane)
        return (quota for quota in self.quotas if quota.account in mine)


def accounts_of(lane: Lane) -> tuple[Account, Account]:
    """Return the accounts in which a lane's tasks are counted."""
    return Account(lane.user), Account(lane.user, lane.project)


def loads_of(active: Iterable[TaskRecord], now: datetime) -> dict[Account, Load]:
    """Return what runs in each account, and has cost up to now, from the tasks that hold a machine."""
    loads: dict[Account, Load] = {}
    for record in active:
        attempt = record.task.attempts[-1]
        hourly, usd = attempt.usd_per_hour or 0.0, attempt.cost_at(now) or 0.0
        for account in accounts_of(record.lane):
            loads[account] = loads.get(account, Load()).plus(record.task.resources, hourly, usd)
    return loads


def paused(pause: Pause) -> Reason:
    """Return why a task that the pause covers does not start."""
    what = f"project {pause.project}" if pause.project is not None else f"group {pause.group}"
    whose = "for everybody" if pause.user is None else f"for {pause.user}"
    evidence: dict[str, str | int | float | bool | None] = {"project": pause.project, "group": pause.group}
    evidence["user"] = pause.user
    return Reason(code=ReasonCode.PAUSED, message=f"The {what} is paused {whose}.", evidence=evidence)


def over(
    quota: Quota, load: Load, need: Resources, stored: int = 0, spent: float = 0.0, usd_per_hour: float = 0.0
) -> Reason | None:
    """Return why a task with that need may not start beside what runs, is stored and was spent; None where it may.

    `spent` is the cost of what has ended this month, `usd_per_hour` that of the task; both in US dollars.
    """
    more = load.plus(need, usd_per_hour)
    whose = quota.user if quota.project is None else f"{quota.user}'s project {quota.project}"
    if quota.running is not None and more.running > quota.running:
        evidence: dict[str, str | int | float | bool | None] = {"quota": "running", "limit": quota.running}
        message = f"The quota of {whose} is {quota.running} running tasks, and {load.running} run."
    elif quota.cpus is not None and more.cpus > quota.cpus + 1e-6:
        evidence = {"quota": "cpus", "limit": quota.cpus}
        message = (
            f"The quota of {whose} is {quota.cpus:g} cores, {load.cpus:g} are taken, and it asks for {need.all_cpus:g}."
        )
    elif quota.storage is not None and stored >= quota.storage:
        evidence = {"quota": "storage", "limit": quota.storage}
        message = f"The quota of {whose} is {size(quota.storage)} of stored outputs, and {size(stored)} are stored."
    elif usd_per_hour and quota.usd_per_hour is not None and more.usd_per_hour > quota.usd_per_hour + _CENT / 100:
        evidence = {"quota": HOURLY, "limit": quota.usd_per_hour, "now": load.usd_per_hour, "asks": usd_per_hour}
        message = (
            f"The quota of {whose} is {usd(quota.usd_per_hour)} an hour, what runs costs {usd(load.usd_per_hour)}, "
            f"and it may cost {usd(usd_per_hour)}."
        )
    elif quota.usd_per_month is not None and (now := spent + load.usd) >= quota.usd_per_month:
        evidence = {"quota": MONTHLY, "limit": quota.usd_per_month, "now": now}
        message = f"The quota of {whose} is {usd(quota.usd_per_month)} a month, and {usd(now)} are spent this month."
    else:
        return None
    return Reason(code=ReasonCode.QUOTA, message=message, evidence=evidence)


def check_quota(quota: Quota, load: Load) -> None:
    """Return where the quota can be set while that much runs; more may be stored and spent than it allows.

    Raises:
        InvalidInput: it limits nothing, or is negative.
        Conflict: more runs already.
    """
    if quota.is_empty:
        fix = "Give --running, --cpus, --storage, --usd-per-hour, --usd-per-month or several."
        raise InvalidInput("The quota limits nothing.", field="--running", fix=fix)
    limits = {"--running": quota.running, "--cpus": quota.cpus, "--storage": quota.storage}
    limits |= {"--usd-per-hour": quota.usd_per_hour, "--usd-per-month": quota.usd_per_month}
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit < float("inf"):
            raise InvalidInput(f"{limit:g} is no limit.", field=name, fix="Give 0 or more; leave it out for no limit.")
    for name, limit, has, unit in (
        ("--running", quota.running, load.running, "tasks"),
        ("--cpus", quota.cpus, load.cpus, "cores"),
    ):
        if limit is not None and has > limit + 1e-6:
            reason = f"{has:g} {unit} run now, more than {limit:g}."
            raise Conflict(reason, field=name, fix=f"Give {has:g} or more, or wait until fewer run, or cancel some.")
    hourly = quota.usd_per_hour
    if hourly is not None and load.usd_per_hour > hourly + _CENT / 100:
        # Rounded up, so that what is said is enough.
        has = math.ceil(load.usd_per_hour / _CENT) * _CENT
        reason = f"What runs now costs {usd(load.usd_per_hour)} an hour, more than {usd(hourly)}."
        fix = f"Give {has:.2f} or more, or wait until fewer run, or cancel some."
        raise Conflict(reason, field="--usd-per-hour", fix=fix)
