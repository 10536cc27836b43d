"""Whose task goes next: users take turns by the cores that they use, and so do each user's projects."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush

from simyard.reason import Reason
from simyard.resources import Resources
from tasks.lanes import merged
from tasks.prices import NO_PRICES, Prices
from tasks.record import Lane, TaskRecord
from tasks.rules import HOURLY, Account, Load, Quota, Rules, accounts_of, over, paused

HALF_LIFE = 3600.0
"""Seconds after which a core-second that was used counts half."""
START_SECONDS = 1.0
"""A start counts as so many seconds at once, so that tasks which end between two looks are counted too."""
_FORGOTTEN = 0.001
_NOTHING = Load()

Share = tuple[str, ...]
"""A machine group and a user, and with a third part one of the user's projects."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What everybody uses at a moment, and has used of late; it begins empty and is not kept when the process ends."""

    cores: Mapping[Share, float] = field(default_factory=dict)
    """Cores that run now."""
    recent: Mapping[Share, float] = field(default_factory=dict)
    """Core-seconds, those of an hour ago counting half."""
    loads: Mapping[Account, Load] = field(default_factory=dict)
    """What runs now, over all groups."""
    at: float | None = None

    def after(self, active: Iterable[TaskRecord], now: float, day: datetime) -> Shares:
        """Return the shares when these tasks hold a machine, at a later moment in seconds that only grow.

        `day` is the time of day then, from which it is counted what they have cost.
        """
        # A thousand tasks run in a few lanes.
        lanes: dict[Lane, list[float]] = {}
        for record in active:
            attempt = record.task.attempts[-1]
            sums = lanes.setdefault(record.lane, [0.0, 0.0, 0.0, 0.0])
            sums[0] += 1
            sums[1] += record.task.resources.all_cpus
            if attempt.usd_per_hour is not None:
                sums[2] += attempt.usd_per_hour
                sums[3] += attempt.cost_at(day) or 0.0
        cores: dict[Share, float] = {}
        loads: dict[Account, Load] = {}
        for lane, (running, *rest) in lanes.items():
            load = Load(int(running), *rest)
            for share in _shares_of(lane):
                cores[share] = cores.get(share, 0.0) + load.cpus
            for account in accounts_of(lane):
                had = loads.get(account, _NOTHING)
                loads[account] = had.with_load(load)
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        kept = 0.5 ** (passed / HALF_LIFE)
        recent = {share: used * kept for share, used in self.recent.items() if used * kept > _FORGOTTEN}
        for share, used in cores.items():
            recent[share] = recent.get(share, 0.0) + used * passed
        return Shares(cores=cores, recent=recent, loads=loads, at=now)


class Line:
    """The queued tasks in the order in which they may start; those that a pause or a quota keeps back are left out.

    By priority; then by user, fewest running cores first and then least used of late; then likewise by the user's
    project; then by age. `started` is told of each task that got a place, and moves its user behind the others.
    `prices` say what a task may cost that starts.
    """

    def __init__(self, queue: Iterable[TaskRecord], shares: Shares, rules: Rules, prices: Prices = NO_PRICES) -> None:
        self._cores, self._recent = dict(shares.cores), dict(shares.recent)
        self._loads, self._rules = dict(shares.loads), rules
        self._prices = prices
        self._used_up: set[Account] = set()
        self._no_more_costs: set[Account] = set()
        self.ran_dry = False
        """Whether all of a lane was given, so that what may stand behind it in the store could matter."""
        lanes: dict[Lane, list[TaskRecord]] = {}
        for record in queue:
            lanes.setdefault(record.lane, []).append(record)
        self._lanes = {lane: deque(merged(found)) for lane, found in lanes.items() if rules.pause_of(lane) is None}
        self._used: dict[Lane, tuple[float, ...]] = {}
        """What is used in each lane, as lanes are ordered by it; until something more is started."""

    def __iter__(self) -> Iterator[TaskRecord]:
        """Give the tasks; each is chosen when it is asked for."""
        heap = [(self._key(lane, records[0]), lane) for lane, records in self._lanes.items()]
        heapify(heap)
        while heap:
            key, lane = heappop(heap)
            if self._used_up and self._used_up.intersection(accounts_of(lane)):
                continue  # none of its tasks may start any more, and none behind them
            records = self._lanes[lane]
            # What was used since it was put there only moves a lane back.
            if key != (fresh := self._key(lane, records[0])):
                heappush(heap, (fresh, lane))
                continue
            record = records.popleft()
            if self._may_start(record):
                yield record
            if records:
                heappush(heap, (self._key(lane, records[0]), lane))
            else:
                self.ran_dry = True

    def started(self, record: TaskRecord) -> None:
        """Take note that a task got a place."""
        need = record.task.resources
        for share in _shares_of(record.lane):
            self._cores[share] = self._cores.get(share, 0.0) + need.all_cpus
            self._recent[share] = self._recent.get(share, 0.0) + need.all_cpus * START_SECONDS
        self._used.clear()
        for account in accounts_of(record.lane):
            self._loads[account] = self._loads.get(account, Load()).plus(need, self._usd_per_hour(record))

    def after(self, shares: Shares) -> Shares:
        """Return the shares with what was started meanwhile."""
        return Shares(cores=self._cores, recent=self._recent, loads=self._loads, at=shares.at)

    def _key(self, lane: Lane, record: TaskRecord) -> tuple[float, ...]:
        used = self._used.get(lane)
        if used is None:
            of, late = self._cores, self._recent
            parts = [part for share in _shares_of(lane) for part in (of.get(share, 0.0), late.get(share, 0.0))]
            # Sums of tenths of cores that are equal must compare as equal.
            used = self._used[lane] = tuple([round(part, 6) for part in parts])
        return (-record.task.priority, *used, record.seq)

    def _may_start(self, record: TaskRecord) -> bool:
        if not self._rules.quotas:
            return True
        costs = self._usd_per_hour(record)
        if costs and self._no_more_costs.intersection(accounts_of(record.lane)):
            return False
        for quota in self._rules.quotas_of(record):
            need, load = record.task.resources, self._loads.get(quota.account, Load())
            reason = _over(quota, load, need, self._rules, costs)
            if reason is not None:
                # Smaller ones do not pass it, or it might wait for ever; but they do where it never fits.
                if over(quota, Load(), need, 0, 0.0, costs) is None:
                    is_hourly = reason.evidence.get("quota") == HOURLY
                    # What costs nothing is not kept back by what something costs.
                    (self._no_more_costs if is_hourly else self._used_up).add(quota.account)
                return False
        return True

    def _usd_per_hour(self, record: TaskRecord) -> float:
        return self._prices.estimate(record.task.group, record.task.resources)


def barrier(
    record: TaskRecord, rules: Rules, loads: Mapping[Account, Load], prices: Prices = NO_PRICES
) -> Reason | None:
    """Return the pause or the quota that keeps a queued task from starting; None where there is none."""
    if (pause := rules.pause_of(record.lane)) is not None:
        return paused(pause)
    need = record.task.resources
    costs = prices.estimate(record.task.group, need)
    for quota in rules.quotas_of(record):
        if (reason := _over(quota, loads.get(quota.account, Load()), need, rules, costs)) is not None:
            return reason
    return None


def _over(quota: Quota, load: Load, need: Resources, rules: Rules, costs: float) -> Reason | None:
    stored, spent = rules.stored.get(quota.account, 0), rules.spent.get(quota.account, 0.0)
    return over(quota, load, need, stored, spent, costs)


def _shares_of(lane: Lane) -> tuple[Share, Share]:
    return (lane.group, lane.user), (lane.group, lane.user, lane.project)
