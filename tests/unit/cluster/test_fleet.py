"""How many machines a group shall have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import fleet as module
from cluster.fleet import Demand, Room, split, together, wanted
from simyard.resources import GIB, MIB, Resources

SHAPE = Room(cpus=4, memory=8 * GIB)
BUSY = Room(cpus=0, memory=0, is_busy=True)


def need(cpus: float = 1, memory: int = 1, gpus: int = 0) -> Resources:
    return Resources(cpus=cpus, memory=memory * GIB, gpus=gpus)


def size(
    *,
    rooms: tuple[Room, ...] = (),
    waiting: tuple[Resources, ...] = (),
    count: int = 0,
    least: int = 0,
    most: int = 100,
) -> int:
    return wanted(Demand(rooms=rooms, waiting=waiting, waiting_count=max(count, len(waiting))), SHAPE, least, most)


def test_without_tasks_a_group_has_its_least() -> None:
    assert size() == 0
    assert size(least=2) == 2
    assert size(rooms=(SHAPE, SHAPE)) == 0, "idle machines are not asked for"


def test_what_is_busy_stays() -> None:
    assert size(rooms=(SHAPE, BUSY, BUSY)) == 2


@pytest.mark.parametrize(
    ("waiting", "machines"),
    [
        ((need(),), 1),
        ((need(),) * 4, 1),
        ((need(),) * 5, 2),
        ((need(0.5),) * 9, 2),
        ((need(1, memory=5),) * 3, 3),
        ((need(4), need(1), need(4), need(3)), 3),
        ((Resources(cpus=0.1, memory=64 * MIB),) * 40, 1),
    ],
)
def test_tasks_fill_machines_by_cores_and_memory(waiting: tuple[Resources, ...], machines: int) -> None:
    assert size(waiting=waiting) == machines


def test_free_room_is_used_before_a_machine_is_asked_for_and_busy_ones_before_idle_ones() -> None:
    half = Room(cpus=2, memory=4 * GIB, is_busy=True)
    assert size(rooms=(SHAPE, half), waiting=(need(),) * 2) == 1
    assert size(rooms=(SHAPE, half), waiting=(need(),) * 3) == 2
    assert size(rooms=(SHAPE, half), waiting=(need(),) * 7) == 3


def test_what_fits_on_no_machine_asks_for_none() -> None:
    assert size(waiting=(need(5), need(1, memory=9), need(1, gpus=1))) == 0


def test_the_bounds_hold() -> None:
    assert size(waiting=(need(4),) * 50, most=7) == 7
    assert size(rooms=(BUSY,) * 9, most=7) == 7
    assert size(waiting=(need(4),), least=3) == 3


def test_a_long_queue_is_taken_to_be_like_its_beginning_and_asked_for_in_one_step() -> None:
    assert size(waiting=(need(),) * 1000, count=400_000, most=10**6) == 100_000
    assert size(waiting=(need(2),) * 1000, count=10_000, most=10**6) == 5000
    assert size(rooms=(SHAPE,) * 300, waiting=(need(),) * 1000, count=1000, most=10**6) == 250


@given(
    cpus=st.lists(st.sampled_from([0.5, 1, 2, 3, 4]), max_size=30),
    free=st.lists(st.integers(0, 4), max_size=5),
)
def test_it_is_never_less_than_the_cores_ask_for_nor_more_than_one_each(cpus: list[float], free: list[int]) -> None:
    rooms = tuple(Room(cpus=left, memory=8 * GIB, is_busy=left < 4) for left in free)
    found = size(rooms=rooms, waiting=tuple(need(one) for one in cpus))
    busy = sum(room.is_busy for room in rooms)
    assert busy <= found <= busy + len(cpus)
    assert sum(cpus) <= sum(room.cpus for room in rooms if room.is_busy) + 4 * (found - busy)


MOST = {"spot": 4, "on-demand": 10}


def shared(total: int, there: dict[str, int] | None = None, troubled: tuple[str, ...] = ()) -> tuple[int, int]:
    sizes = split(total, ["spot", "on-demand"], MOST, there or {}, troubled)
    assert sizes.keys() == MOST.keys()
    return sizes["spot"], sizes["on-demand"]


def test_machines_are_asked_of_the_first_node_type_that_is_not_in_trouble() -> None:
    assert shared(3) == (3, 0)
    assert shared(6) == (4, 2), "what the first may not have is the next one's"
    assert shared(3, troubled=("spot",)) == (0, 3)
    assert shared(3, {"spot": 1}, troubled=("spot",)) == (1, 2)
    assert shared(3, {"on-demand": 2}) == (1, 2), "what is there stays"
    assert shared(3, troubled=("spot", "on-demand")) == (3, 0), "where all are in trouble the first is tried again"


def test_what_is_too_much_is_let_go_from_the_last_node_type_on() -> None:
    assert shared(2, {"spot": 2, "on-demand": 3}) == (2, 0)
    assert shared(0, {"spot": 2, "on-demand": 3}) == (0, 0)


@given(
    st.integers(0, 20),
    st.integers(0, 6),
    st.integers(0, 12),
    st.sets(st.sampled_from(["spot", "on-demand"])),
)
def test_a_split_never_asks_for_more_than_was_wanted_or_a_type_may_have(
    total: int, spot: int, plain: int, troubled: set[str]
) -> None:
    sizes = split(total, ["spot", "on-demand"], MOST, {"spot": spot, "on-demand": plain}, troubled)
    assert sum(sizes.values()) <= total
    assert all(0 <= sizes[name] <= MOST[name] for name in MOST)
    if len(troubled) == 0:
        assert sum(sizes.values()) == min(total, sum(MOST.values()))


def whole(total: int, there: dict[str, int], *troubled: str, last: str | None = None, busy: bool = False) -> str | None:
    return together(total, ["spot", "on-demand"], there, troubled, last, busy=busy)


def test_an_mpi_group_has_its_machines_of_one_node_type_and_another_one_takes_over_as_a_whole() -> None:
    assert whole(0, {"spot": 2}) is None
    assert whole(4, {}) == "spot"
    assert whole(4, {}, "spot") == "on-demand"
    assert whole(4, {}, "spot", "on-demand") is None, "nothing is paid for until one can be tried again"
    assert whole(4, {"spot": 3}, "spot") == "on-demand", "what came of it goes"
    assert whole(4, {"spot": 3}, "spot", busy=True) == "spot", "the one that is lost is asked for alone"
    assert whole(4, {"spot": 4}, "spot") == "spot"


def test_an_mpi_group_does_not_go_back_while_the_other_node_type_is_on_its_way() -> None:
    assert whole(4, {"spot": 3}, last="on-demand") == "on-demand"
    assert whole(4, {"spot": 3}, "on-demand", last="on-demand") == "spot"
    assert whole(4, {"spot": 1, "on-demand": 3}) == "on-demand", "a dispatcher that begins stays with what is there"
    assert whole(4, {}, last="one that there is no more") == "spot"


def test_disk_that_is_asked_for_is_counted_and_only_that() -> None:
    shape = Room(cpus=16, memory=64 * GIB, disk=60 * GIB)
    plain, asking = need(), Resources(disk=25 * GIB)

    def size_of(*waiting: Resources) -> int:
        return wanted(Demand(waiting=waiting, waiting_count=len(waiting)), shape, 0, 100)

    assert size_of(*[plain] * 16) == 1
    assert size_of(*[asking] * 5) == 3
    assert size_of(Resources(disk=61 * GIB)) == 0, "no machine of the group could keep that"


def test_each_task_that_wants_a_whole_machine_gets_one_that_carries_nothing() -> None:
    whole = Resources(whole_machine=True)
    half = Room(cpus=2, memory=4 * GIB, is_busy=True)
    assert size(waiting=(whole,) * 3) == 3
    assert size(rooms=(half, SHAPE), waiting=(whole,)) == 2
    assert size(rooms=(half, SHAPE), waiting=(whole, need(), need(), whole)) == 3, "small ones share the busy machine"
    assert size(waiting=(whole, need())) == 2


def test_a_hundred_machines_are_asked_for_in_one_decision() -> None:
    assert size(waiting=(Resources(whole_machine=True),) * 100) == 100
    assert size(waiting=(need(4),) * 100) == 100
    assert size(rooms=(BUSY,) * 20, waiting=(need(),) * 320) == 100


@pytest.mark.parametrize("kinds", [1, 20])
def test_a_decision_looks_at_no_machine_again_and_again(monkeypatch: pytest.MonkeyPatch, kinds: int) -> None:
    looks = 0
    fits = module._Space.fits

    def counted(space: module._Space, asked: Resources) -> bool:
        nonlocal looks
        looks += 1
        return fits(space, asked)

    monkeypatch.setattr(module._Space, "fits", counted)
    waiting = tuple(need(1 + i % kinds / 10) for i in range(1000))
    room = Room(cpus=0.5, memory=GIB, is_busy=True)
    size(rooms=(room,) * 100, waiting=waiting, most=10**6)
    assert looks <= 2 * len(waiting) + kinds * (100 + len(waiting)), "each kind passes each machine once"


def test_a_task_over_several_machines_asks_for_all_of_them_at_once() -> None:
    def over(machines: int, cpus: float = 4) -> Resources:
        return need(cpus).model_copy(update={"machines": machines})

    assert size(waiting=(over(4),)) == 4
    assert size(waiting=(over(4), over(4))) == 8
    assert size(waiting=(over(2, 1), need(1), over(3, 1))) == 3, "they share machines"
    assert size(rooms=(BUSY, SHAPE), waiting=(over(2),)) == 3
    assert size(waiting=(over(101), need(1))) == 1, "the group never has so many"
