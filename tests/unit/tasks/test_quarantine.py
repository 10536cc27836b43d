from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.quarantine import FIRST, LONGEST, TASKS, WINDOW, Failure, Quarantine
from tests.unit.tasks.samples import NOW, later

GROUPS = {"a": "local", "b": "local", "c": "local", "far": "cloud"}


class Yard:
    """Machines whose tasks fail or do well while a clock is moved by hand, in seconds."""

    def __init__(self, groups: dict[str, str] | None = None) -> None:
        self.now = 0.0
        self.groups = groups or GROUPS
        self.known = Quarantine()

    def well(self, machine: str, *, started: float | None = None) -> None:
        begun = later(self.now if started is None else started)
        self.known = self.known.did_well(machine, begun, later(self.now))

    def fail(self, machine: str, *tasks: str) -> list[str]:
        charged = list[str]()
        for task in tasks:
            failure = Failure(task=task, attempt=1, at=later(self.now))
            self.known, found = self.known.failed_fast(machine, self.groups, failure)
            charged += [f.task for f in found]
        return charged

    def aside(self) -> set[str]:
        return set(self.known.set_aside(self.groups, later(self.now)))

    def until(self, machine: str) -> datetime:
        return self.known.set_aside(self.groups, later(self.now))[machine]


def test_a_machine_on_which_three_different_tasks_fail_fast_is_set_aside_and_charged_with_them() -> None:
    yard = Yard()
    yard.well("b")
    assert yard.fail("a", "t1", "t2") == []
    assert yard.aside() == set()
    assert yard.fail("a", "t3") == ["t1", "t2", "t3"]
    assert yard.aside() == {"a"}


def test_what_fails_while_a_machine_is_set_aside_is_charged_to_it_too() -> None:
    yard = Yard()
    yard.well("b")
    yard.fail("a", "t1", "t2", "t3")
    until = yard.until("a")
    assert yard.fail("a", "t4") == ["t4"]
    assert yard.until("a") == until


def test_one_task_that_fails_again_and_again_says_nothing_of_the_machine() -> None:
    yard = Yard()
    yard.well("b")
    assert yard.fail("a", *["poison"] * 50) == []
    assert yard.aside() == set()


def test_failures_count_for_ten_minutes() -> None:
    yard = Yard()
    yard.fail("a", "t1")
    yard.now = WINDOW.total_seconds()
    yard.well("b")
    yard.fail("a", "t2", "t3")
    assert yard.aside() == set()
    yard.fail("a", "t4")
    assert yard.aside() == {"a"}


def test_a_task_that_was_started_later_and_does_well_speaks_for_the_machine() -> None:
    yard = Yard()
    yard.well("b")
    yard.fail("a", "t1", "t2")
    yard.now = 20
    yard.well("a", started=5)
    yard.fail("a", "t3", "t4")
    assert yard.aside() == set()


def test_a_task_that_was_started_before_does_not() -> None:
    yard = Yard()
    yard.now = 1000
    yard.well("b")
    yard.fail("a", "t1", "t2")
    yard.well("a", started=5)
    assert yard.fail("a", "t3") == ["t1", "t2", "t3"]


def test_a_long_task_on_another_machine_shows_that_machines_can_do_well() -> None:
    yard = Yard()
    for hour in range(5):
        yard.now = hour * 3600
        yard.well("b", started=0)
    yard.fail("a", "t1", "t2", "t3")
    assert yard.aside() == {"a"}


def test_where_no_other_machine_of_the_group_does_well_none_is_set_aside() -> None:
    yard = Yard()
    yard.well("far")
    yard.fail("a", "t1", "t2", "t3", "t4", "t5")
    assert yard.aside() == set()
    yard.well("b")
    yard.now = WINDOW.total_seconds()
    yard.fail("a", "t6", "t7", "t8")
    assert yard.aside() == set()


def test_the_last_machine_of_a_group_is_never_set_aside() -> None:
    yard = Yard()
    for machine in "abc":
        yard.well(machine)
    yard.now = 1
    for machine in "abc":
        yard.fail(machine, *(f"{machine}{i}" for i in range(5)))
    assert yard.aside() == {"a", "b"}
    alone = Yard({"a": "local"})
    alone.well("a")
    alone.now = 1
    alone.fail("a", *(f"t{i}" for i in range(50)))
    assert alone.aside() == set()


def test_tasks_that_fail_wherever_they_run_set_no_machine_aside() -> None:
    yard = Yard()
    for machine in "abc":
        yard.well(machine)
    for i in range(200):
        yard.now += 1
        yard.fail("abc"[i % 3], f"t{i}")
    assert yard.aside() == set()


def test_a_task_that_failed_fast_on_another_machine_is_no_witness() -> None:
    yard = Yard()
    yard.well("c")
    yard.fail("b", "t1")
    assert yard.fail("a", "t1", "t2", "t3") == []
    assert yard.fail("a", "t4") != []


def test_a_machine_comes_back_and_is_set_aside_for_longer_each_time_up_to_a_bound() -> None:
    yard, spans = Yard(), []
    for times in range(8):
        yard.well("b", started=yard.now)
        yard.fail("a", *(f"t{times}-{i}" for i in range(TASKS)))
        until = yard.until("a")
        spans.append(until - later(yard.now))
        yard.now = (until - NOW).total_seconds()
        assert yard.aside() == set()
    assert spans == [min(FIRST * 2**i, LONGEST) for i in range(8)]
    # Old failures do not count again: it takes three new ones.
    yard.well("b", started=yard.now)
    assert yard.fail("a", "x", "y") == []


def test_a_task_that_does_well_after_the_return_makes_the_next_time_a_first_one() -> None:
    yard = Yard()
    yard.well("b")
    yard.fail("a", "t1", "t2", "t3")
    yard.now = FIRST.total_seconds() + 60
    yard.well("a")
    yard.well("b")
    yard.now += 1
    yard.fail("a", "t4", "t5", "t6")
    assert yard.until("a") == later(yard.now) + FIRST


def test_a_task_that_ran_while_the_machine_was_set_aside_does_not() -> None:
    yard = Yard()
    yard.well("b")
    yard.fail("a", "t1", "t2", "t3")
    yard.now = 60
    yard.well("a", started=0)
    assert yard.aside() == {"a"}


def test_where_all_others_leave_the_last_machine_gets_tasks_again_and_they_pay_for_their_failures() -> None:
    yard = Yard()
    yard.well("b")
    yard.fail("a", "t1", "t2", "t3")
    assert yard.aside() == {"a"}
    yard.groups = {"a": "local", "far": "cloud"}
    assert yard.aside() == set()
    assert yard.fail("a", "t4") == []
    yard.groups = GROUPS
    assert yard.aside() == {"a"}


def test_a_machine_that_is_gone_is_forgotten() -> None:
    yard = Yard()
    yard.well("b")
    yard.fail("a", "t1", "t2", "t3")
    yard.groups = {name: group for name, group in GROUPS.items() if name != "a"}
    assert yard.fail("a", "t4") == []
    yard.fail("b", "t5")
    assert "a" not in {*yard.known.failures, *yard.known.aside, *yard.known.well}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "far"]), st.integers(0, 9), st.booleans(), st.integers(0, 400)),
        max_size=200,
    )
)
def test_whatever_happens_a_group_keeps_a_machine_and_what_is_known_stays_small(
    story: list[tuple[str, int, bool, int]],
) -> None:
    yard = Yard()
    for machine, task, is_well, seconds in story:
        yard.now += seconds
        if is_well:
            yard.well(machine)
        else:
            before = yard.aside()
            charged = yard.fail(machine, f"t{task}")
            assert bool(charged) is (machine in yard.aside())
            assert yard.aside() - before <= {machine}
        aside = yard.aside()
        assert not {"a", "b", "c"} <= aside
        assert "far" not in aside
        for name in aside:
            until = yard.until(name)
            assert timedelta(0) < until - later(yard.now) <= LONGEST
        assert sum(map(len, yard.known.failures.values())) <= 40


@pytest.mark.parametrize("count", [1000])
def test_many_failures_of_one_machine_stay_bounded(count: int) -> None:
    yard = Yard()
    yard.fail("a", *(f"t{i}" for i in range(count)))
    assert len(yard.known.failures["a"]) <= 100
