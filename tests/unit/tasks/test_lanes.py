"""Where a task stands among lanes that take turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.lanes import Waiting, merged, position, share
from tasks.record import Lane
from tests.unit.tasks.samples import queued

MINE = Lane("local", "ada", "default")
counts = st.integers(0, 9)
others = st.lists(
    st.builds(Waiting, st.sampled_from(["ada", "bob", "eve"]), st.sampled_from(["p", "q"]), counts, counts),
    max_size=5,
    unique_by=lambda lane: (lane.user, lane.project),
)


def test_a_lane_that_is_alone_has_exact_positions() -> None:
    assert position([Waiting("ada", "default", before=2, level=3)], MINE) == 5
    assert position([], MINE) == 0


def test_a_user_with_many_projects_gets_no_more_turns() -> None:
    one = [Waiting("bob", "p", before=0, level=90)]
    many = [Waiting("bob", f"p{n}", before=0, level=10) for n in range(9)]
    mine = Waiting("ada", "default", before=0, level=2)
    assert position([*one, mine], MINE) == position([*many, mine], MINE) == 2 + 3


@given(others=others, before=counts, level=counts)
def test_a_position_lies_between_the_own_lane_and_all_that_waits(
    others: list[Waiting], before: int, level: int
) -> None:
    mine = Waiting("ada", "default", before, level)
    found = position([mine, *others], MINE)
    assert before + level <= found <= before + level + sum(lane.before + lane.level for lane in others)
    assert position([mine._replace(level=level + 1), *others], MINE) > found


def test_a_look_takes_at_least_one_task_of_each_lane() -> None:
    assert [share(1000, lanes) for lanes in (0, 1, 3, 1000, 5000)] == [1000, 1000, 333, 1, 1]


def test_lanes_are_merged_by_priority() -> None:
    records = [queued(priority=p) for p in (0, 2, -1)]
    assert [record.task.priority for record in merged(records)] == [2, 0, -1]
