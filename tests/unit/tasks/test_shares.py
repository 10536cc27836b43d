"""Whose task goes next, from plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.fleet import Room
from simyard.errors import Conflict, InvalidInput
from simyard.reason import ReasonCode
from simyard.resources import GIB, Resources
from tasks.lifecycle import step
from tasks.prices import NO_PRICES, Prices, Sold
from tasks.record import TaskRecord
from tasks.rules import Account, Load, Pause, Quota, Rules, check_quota, loads_of
from tasks.shares import HALF_LIFE, Line, Shares, barrier
from tests.unit.tasks.samples import NOW, dispatch, later, queued


def waiting(
    user: str, seq: int, *, cpus: float = 1.0, priority: int = 0, project: str = "default", group: str = "local"
) -> TaskRecord:
    record = queued(resources=Resources(cpus=cpus, memory=GIB), priority=priority, project=project, group=group)
    return replace(record, seq=seq, user=user)


def at_work(record: TaskRecord) -> TaskRecord:
    return step(record, dispatch(), NOW).record


def started(
    queue: Sequence[TaskRecord],
    count: int,
    shares: Shares | None = None,
    rules: Rules | None = None,
    prices: Prices = NO_PRICES,
) -> str:
    """Return whose tasks the first places go to."""
    line = Line(queue, shares or Shares(), rules or Rules(), prices)
    found: list[str] = []
    for record in line:
        if len(found) == count:
            break
        found.append(record.user)
        line.started(record)
    return "".join(found)


def test_users_take_turns_however_many_tasks_one_of_them_has() -> None:
    queue = [waiting("a", n) for n in range(50)] + [waiting("b", n) for n in range(50, 53)] + [waiting("c", 53)]
    assert started(queue, 8) == "abcababa"


def test_who_runs_more_cores_comes_later() -> None:
    shares = Shares().after([at_work(waiting("a", 0, cpus=2))], 0, NOW)
    queue = [waiting("a", 1), waiting("a", 2), *(waiting("b", n) for n in range(3, 9))]
    assert started(queue, 5, shares) == "bbaba"


def test_a_priority_goes_before_all_shares() -> None:
    shares = Shares().after([at_work(waiting("a", 0, cpus=8))], 0, NOW)
    assert started([waiting("b", 1), waiting("a", 2, priority=1)], 2, shares) == "ab"


def test_the_projects_of_a_user_take_turns_and_win_the_user_nothing() -> None:
    queue = [waiting("a", n, project=f"p{n % 3}") for n in range(9)] + [waiting("b", n) for n in range(9, 20)]
    assert started(queue, 6) == "ababab"
    mine = [waiting("a", n, project="long" if n < 8 else "short") for n in range(10)]
    line = Line(mine, Shares(), Rules())
    order = []
    for record in line:
        order.append(record.task.project)
        line.started(record)
    assert order[:4] == ["long", "short", "long", "short"]


def test_a_task_that_gets_no_place_costs_its_user_nothing() -> None:
    queue = [waiting("a", 0, cpus=64), waiting("a", 1), waiting("b", 2)]
    line = iter(Line(queue, Shares(), Rules()))
    assert [record.user for record in line] == ["a", "a", "b"]


def test_what_was_used_of_late_decides_between_those_who_run_nothing_and_fades() -> None:
    shares = Shares().after([at_work(waiting("a", 0))], 0, NOW).after([], 600, NOW)
    assert started([waiting("a", 1), waiting("b", 2)], 2, shares) == "ab", "nothing ran in between: nothing is known"
    shares = (
        Shares()
        .after([at_work(waiting("a", 0))], 0, NOW)
        .after([at_work(waiting("a", 0))], 600, NOW)
        .after([], 601, NOW)
    )
    assert started([waiting("a", 1), waiting("b", 2)], 2, shares) == "ba"
    assert started([waiting("a", 1), waiting("b", 2)], 2, shares.after([], 40 * HALF_LIFE, NOW)) == "ab"


def test_what_nobody_uses_any_more_is_forgotten() -> None:
    shares = Shares().after([at_work(waiting("a", 0))], 0, NOW).after([at_work(waiting("a", 0))], 60, NOW)
    assert shares.recent
    assert shares.after([], 60 + 40 * HALF_LIFE, NOW).recent == {}


def test_a_paused_project_or_group_gives_nothing_and_the_others_go_on() -> None:
    queue = [waiting("a", 0, project="p"), waiting("a", 1), waiting("b", 2, project="p")]
    for pause, rest in (
        (Pause(user="a", project="p"), "ab"),
        (Pause(user="a", group="local"), "b"),
        (Pause(group="local"), ""),
        (Pause(user="a", group="cloud"), "aba"),
    ):
        assert started(queue, 9, rules=Rules(pauses=frozenset({pause}))) == rest


def test_a_quota_counts_what_runs_and_what_starts() -> None:
    shares = Shares().after([at_work(waiting("a", 0))], 0, NOW)
    queue = [waiting("a", n) for n in range(1, 9)]
    assert started(queue, 9, shares, Rules(quotas=(Quota(user="a", running=3),))) == "aa"
    assert started(queue, 9, shares, Rules(quotas=(Quota(user="a", cpus=4.0),))) == "aaa"
    assert started(queue, 9, shares, Rules(quotas=(Quota(user="a", project="other", running=0),))) == "a" * 8
    part = Quota(user="a", project="default", running=2)
    assert started(queue, 9, shares, Rules(quotas=(Quota(user="a", running=5), part))) == "a"


def test_a_full_storage_keeps_its_owner_back_and_nobody_else() -> None:
    queue = [waiting("a", 1), waiting("b", 2), waiting("a", 3)]
    quotas = (Quota(user="a", storage=10),)
    assert started(queue, 9, rules=Rules(quotas=quotas, stored={Account("a"): 9})) == "aba"
    full = Rules(quotas=quotas, stored={Account("a"): 2048})
    assert started(queue, 9, rules=full) == "b"
    found = barrier(queue[0], full, {})
    assert found is not None
    assert found.message == "The quota of a is 10 B of stored outputs, and 2 KiB are stored."


PRICES = Prices(
    machines={
        "cloud.spot": Sold(group="cloud", offers=Room(cpus=4, memory=16 * GIB), usd_per_hour=0.1),
        "cloud": Sold(group="cloud", offers=Room(cpus=4, memory=16 * GIB), usd_per_hour=0.4),
    }
)


def at_cost(record: TaskRecord, usd_per_hour: float) -> TaskRecord:
    return step(record, replace(dispatch(), usd_per_hour=usd_per_hour), NOW).record


def test_what_runs_and_starts_costs_no_more_an_hour_than_the_quota_on_whatever_machine() -> None:
    queue = [waiting("a", n, group="cloud") for n in range(1, 9)]
    running = [at_cost(waiting("a", 0, group="cloud"), 0.1)]
    shares = Shares().after(running, 0, NOW)
    rules = Rules(quotas=(Quota(user="a", usd_per_hour=0.3),))
    # Each may cost a quarter of 0.4.
    assert started(queue, 9, shares, rules, PRICES) == "aa"
    assert started(queue, 9, Shares(), rules, PRICES) == "aaa"
    assert started(queue, 9, shares, Rules(quotas=(Quota(user="b", usd_per_hour=0),)), PRICES) == "a" * 8
    found = barrier(queue[0], Rules(quotas=(Quota(user="a", usd_per_hour=0.15),)), loads_of(running, NOW), PRICES)
    assert found is not None
    assert found.message == ("The quota of a is 0.15 USD an hour, what runs costs 0.10 USD, and it may cost 0.10 USD.")
    assert found.evidence == {"quota": "usd-per-hour", "limit": 0.15, "now": 0.1, "asks": 0.1}


def test_what_costs_nothing_starts_beside_what_costs_too_much_an_hour() -> None:
    queue = [waiting("a", 1, group="cloud"), waiting("a", 2), waiting("a", 3, group="cloud", cpus=0.1)]
    shares = Shares().after([at_cost(waiting("a", 0), 0.25)], 0, NOW)
    line = Line(queue, shares, Rules(quotas=(Quota(user="a", usd_per_hour=0.3),)), PRICES)
    assert [record.seq for record in line] == [2], "the smaller one does not pass the larger one"
    line = Line(queue, Shares(), Rules(quotas=(Quota(user="a", usd_per_hour=0.05),)), PRICES)
    assert [record.seq for record in line] == [2, 3], "but it does where the larger one never fits"


def test_who_has_spent_the_quota_of_a_month_starts_nothing_more() -> None:
    queue = [waiting("a", 1), waiting("b", 2), waiting("a", 3, project="p")]
    quotas = (Quota(user="a", usd_per_month=10),)
    assert started(queue, 9, rules=Rules(quotas=quotas, spent={Account("a"): 9.99, Account("b"): 99.0})) == "aba"
    assert started(queue, 9, rules=Rules(quotas=quotas, spent={Account("a"): 10.0})) == "b"
    # What runs has cost something, too: two dollars in an hour.
    running = [at_cost(waiting("a", 0), 2.0)]
    rules = Rules(quotas=quotas, spent={Account("a"): 8.0})
    assert started(queue, 9, Shares().after(running, 0, later(3599)), rules) == "baa"
    assert started(queue, 9, Shares().after(running, 0, later(3600)), rules) == "b"
    found = barrier(queue[0], rules, loads_of(running, later(3600)))
    assert found is not None
    assert found.message == "The quota of a is 10.00 USD a month, and 10.00 USD are spent this month."
    assert found.evidence == {"quota": "usd-per-month", "limit": 10, "now": 10.0}


def test_a_large_task_is_not_passed_by_small_ones_unless_it_never_fits() -> None:
    queue = [waiting("a", 1, cpus=3), waiting("a", 2, cpus=1)]
    shares = Shares().after([at_work(waiting("a", 0, cpus=2))], 0, NOW)
    assert started(queue, 9, shares, Rules(quotas=(Quota(user="a", cpus=4),))) == ""
    assert started(queue, 9, Shares(), Rules(quotas=(Quota(user="a", cpus=2),))) == "a"


def test_a_task_hears_what_keeps_it_back() -> None:
    record = waiting("a", 1, cpus=2)
    loads = loads_of([at_work(waiting("a", 0)), at_work(waiting("b", 0, cpus=9))], NOW)
    assert loads[Account("a")] == loads[Account("a", "default")] == Load(1, 1.0)
    assert barrier(record, Rules(), loads) is None
    assert barrier(record, Rules(quotas=(Quota(user="a", running=2, cpus=3),)), loads) is None
    found = barrier(record, Rules(quotas=(Quota(user="a", cpus=2.5),)), loads)
    assert found is not None
    assert found.code is ReasonCode.QUOTA
    assert found.message == "The quota of a is 2.5 cores, 1 are taken, and it asks for 2."
    pauses = Rules(pauses=frozenset({Pause(group="local")}))
    found = barrier(record, pauses, loads)
    assert found is not None
    assert (found.code, found.message) == (ReasonCode.PAUSED, "The group local is paused for everybody.")


@pytest.mark.parametrize(
    ("quota", "field"),
    [(Quota(user="a", running=-1), "--running"), (Quota(user="a", cpus=-0.5), "--cpus"), (Quota(user="a"), "--running")]
    + [(Quota(user="a", storage=-1), "--storage"), (Quota(user="a", usd_per_hour=-0.1), "--usd-per-hour")]
    + [(Quota(user="a", usd_per_month=value), "--usd-per-month") for value in (-1, float("nan"))]
    + [(Quota(user="a", cpus=value), "--cpus") for value in (float("nan"), float("inf"))],
)
def test_a_quota_that_is_none_is_refused(quota: Quota, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_quota(quota, Load())
    assert refused.value.field == field
    assert refused.value.fix


def test_a_quota_below_what_runs_is_refused_with_what_runs() -> None:
    check_quota(Quota(user="a", running=3, cpus=2.5), Load(3, 2.5))
    for quota, said in ((Quota(user="a", running=2), "3 tasks run now"), (Quota(user="a", cpus=2), "2.5 cores run")):
        with pytest.raises(Conflict, match=said) as refused:
            check_quota(quota, Load(3, 2.5))
        assert refused.value.field


def test_a_quota_below_what_runs_costs_an_hour_is_refused_with_one_that_is_enough() -> None:
    load = loads_of([at_cost(waiting("a", n), 0.1234) for n in range(3)], later(3600))[Account("a")]
    with pytest.raises(Conflict, match=r"costs 0\.37 USD an hour, more than 0\.36 USD") as refused:
        check_quota(Quota(user="a", usd_per_hour=0.36), load)
    assert refused.value.field == "--usd-per-hour"
    assert str(refused.value.fix).startswith("Give 0.38 or more")
    check_quota(Quota(user="a", usd_per_hour=0.38), load)
    # What was spent may be more: nothing further starts.
    check_quota(Quota(user="a", usd_per_month=0.01), load)


users = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(tasks=users, slots=st.integers(1, 40), running=st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_shares_are_equal_within_one_task_for_all_who_have_more(
    tasks: list[int], slots: int, running: list[int]
) -> None:
    """From whatever state: a user who could have started one more runs at most one task less than who started last."""
    active = [at_work(waiting(str(u), 0)) for u in range(len(tasks)) for _ in range(running[u])]
    queue = [waiting(str(u), 100 * u + n) for u, count in enumerate(tasks) for n in range(count)]
    got = Counter(started(queue, slots, Shares().after(active, 0, NOW)))
    for u, count in enumerate(tasks):
        if got[str(u)] < count:
            for other in range(len(tasks)):
                if got[str(other)]:
                    assert running[u] + got[str(u)] >= running[other] + got[str(other)] - 1
    assert sum(got.values()) == min(slots, sum(tasks))


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=4), slots=st.integers(1, 3))
def test_nobody_starves_and_over_time_all_get_the_same_core_seconds(lengths: list[int], slots: int) -> None:
    """Users whose queues never end, each with tasks of another length, on a few places."""
    seconds, longest = 240, max(lengths)
    queue = [waiting(str(u), slots * u + n) for u in range(len(lengths)) for n in range(slots)]
    active = {record.id: at_work(record) for record in queue}
    shares, used, runs = Shares(), Counter[str](), list[tuple[int, TaskRecord]]()
    last = dict.fromkeys((str(u) for u in range(len(lengths))), 0)
    for now in range(seconds):
        runs = [(end, record) for end, record in runs if end > now]
        shares = shares.after([active[record.id] for _, record in runs], now, NOW)
        line = Line(queue, shares, Rules())
        for record in line:
            if len(runs) == slots:
                break
            line.started(record)
            runs.append((now + lengths[int(record.user)], record))
        shares = line.after(shares)
        for _, record in runs:
            used[record.user] += 1
            last[record.user] = now
    assert min(last.values()) > seconds - 4 * longest * len(lengths), "nobody starves"
    if len(lengths) >= slots:
        fair = seconds * slots / len(lengths)
        assert all(abs(count - fair) <= 0.1 * fair + 2 * longest for count in used.values()), used
