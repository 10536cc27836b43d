"""What the dispatcher decides, from plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simyard.resources import GIB, Resources
from simyard.simulator import RuntimeName
from tasks import placement as module
from tasks.placement import Candidate, Holder, Host, Kind, Retire, Reuse, Start, free_places, placed, plan

HOST = Host(id="h1", group="local", cpus=2.0, memory=4 * GIB, gpus=0)


def kind(cpus: float = 1.0, *, memory: int = GIB, gpus: int = 0, simulator: str = "swmm", disk: int = 20 * GIB) -> Kind:
    resources = Resources(cpus=cpus, memory=memory, gpus=gpus, disk=disk)
    return Kind(simulator=simulator, version="1", runtime=RuntimeName.NATIVE, resources=resources)


WHOLE = replace(kind(), resources=Resources(whole_machine=True))
ON_HOST = placed(WHOLE, HOST)


def candidate(task: str, of: Kind | None = None, group: str = "local") -> Candidate:
    return Candidate(task=task, group=group, kind=of or kind())


def idle(name: str, of: Kind | None = None, since: float = 0.0, host: str = "h1") -> Holder:
    return Holder(name=name, host=host, kind=of or kind(), idle_since=since)


def busy(name: str, of: Kind | None = None, host: str = "h1") -> Holder:
    return replace(idle(name, of, host=host), idle_since=None)


def test_tasks_start_in_order_while_there_is_room() -> None:
    actions = plan([candidate("a"), candidate("b"), candidate("c")], [HOST], [], now=0, warm=60)
    assert actions == [Start(task="a", host="h1", kind=kind()), Start(task="b", host="h1", kind=kind())]


def test_a_warm_actor_of_the_same_kind_is_used_again() -> None:
    assert plan([candidate("a")], [HOST], [idle("x")], now=1, warm=60) == [Reuse(task="a", holder="x")]


def test_an_actor_for_other_resources_is_not_used() -> None:
    actions = plan([candidate("a", kind(0.5))], [HOST], [idle("x")], now=1, warm=60)
    assert actions == [Start(task="a", host="h1", kind=kind(0.5))]


def test_idle_actors_make_room_longest_idle_first() -> None:
    holders = [idle("young", since=5), idle("old", since=1)]
    actions = plan([candidate("a", kind(simulator="calculix"))], [HOST], holders, now=6, warm=60)
    assert actions == [Retire(holder="old"), Start(task="a", host="h1", kind=kind(simulator="calculix"))]


def test_busy_actors_are_never_retired() -> None:
    assert plan([candidate("a")], [HOST], [busy("x"), busy("y")], now=1000, warm=60) == []


def test_idle_actors_end_after_the_warm_time() -> None:
    assert plan([], [HOST], [idle("x", since=0), idle("y", since=50)], now=60, warm=60) == [Retire(holder="x")]


def test_idle_actors_end_with_their_machine_and_busy_ones_are_left_alone() -> None:
    holders = [idle("x", host="gone"), busy("y", host="gone")]
    assert plan([], [HOST], holders, now=1, warm=60) == [Retire(holder="x")]


def test_a_large_task_is_not_overtaken_for_ever_by_small_ones() -> None:
    queue = [candidate("large", kind(2.0)), candidate("small")]
    assert plan(queue, [HOST], [busy("x")], now=0, warm=60) == []


def test_small_tasks_may_use_the_machines_that_the_large_one_does_not_wait_for() -> None:
    other = Host(id="h2", group="local", cpus=1.0, memory=4 * GIB, gpus=0)
    queue = [candidate("large", kind(2.0)), candidate("small")]
    actions = plan(queue, [HOST, other], [busy("x")], now=0, warm=60)
    assert actions == [Start(task="small", host="h2", kind=kind())]


def test_a_task_that_no_machine_could_hold_blocks_nobody() -> None:
    queue = [candidate("giant", kind(64.0)), candidate("small")]
    assert plan(queue, [HOST], [], now=0, warm=60) == [Start(task="small", host="h1", kind=kind())]


def test_a_task_waits_for_its_own_group() -> None:
    assert plan([candidate("a", group="cloud")], [HOST], [], now=0, warm=60) == []


def test_a_machine_that_is_set_aside_gets_nothing_and_its_idle_actors_end_in_their_time() -> None:
    aside = replace(HOST, is_set_aside=True)
    other = Host(id="h2", group="local", cpus=1.0, memory=4 * GIB, gpus=0)
    holders = [idle("x", since=0), busy("y")]
    queue = [candidate("a"), candidate("b")]
    assert plan(queue, [aside, other], holders, now=1, warm=60) == [Start(task="a", host="h2", kind=kind())]
    assert plan(queue, [aside], holders, now=60, warm=60) == [Retire(holder="x")]
    assert plan(queue, [HOST], holders, now=60, warm=60) == [Reuse(task="a", holder="x")]


def test_gpus_and_memory_are_counted() -> None:
    host = Host(id="h1", group="local", cpus=8.0, memory=4 * GIB, gpus=1)
    queue = [candidate("a", kind(gpus=1)), candidate("b", kind(gpus=1))]
    assert [a.task for a in plan(queue, [host], [], now=0, warm=60) if isinstance(a, Start)] == ["a"]
    queue = [candidate("a", kind(memory=3 * GIB)), candidate("b", kind(memory=2 * GIB))]
    assert [a.task for a in plan(queue, [host], [], now=0, warm=60) if isinstance(a, Start)] == ["a"]


def test_there_is_room_while_something_is_left_of_a_machine_or_an_actor_is_idle() -> None:
    assert free_places([HOST], [busy("x", kind(1.5))]) == 1
    assert free_places([HOST], [busy("x"), idle("y")]) == 1
    assert free_places([HOST, replace(HOST, id="h2")], [idle("y", kind(0.5))]) == 4
    assert not free_places([HOST], [busy("x"), busy("y")])
    assert not free_places([HOST], [busy("x", kind(1.0, memory=4 * GIB))])
    assert not free_places([], [idle("x")])
    assert not free_places([replace(HOST, is_set_aside=True)], [idle("x")])


def test_ten_tenths_of_a_core_fit_into_one() -> None:
    host = Host(id="h1", group="local", cpus=1.0, memory=64 * GIB, gpus=0)
    queue = [candidate(f"t{i}", kind(0.1)) for i in range(11)]
    assert len(plan(queue, [host], [], now=0, warm=60)) == 10


def test_disk_that_is_asked_for_is_kept_and_a_task_that_asks_for_none_takes_none() -> None:
    host = replace(HOST, cpus=16.0, memory=64 * GIB, disk=60 * GIB)
    asking = [candidate(f"t{i}", kind(disk=25 * GIB)) for i in range(3)]
    plain = [candidate(f"p{i}") for i in range(5)]
    assert [a.task for a in plan([*asking[:2], *plain], [host], [], now=0, warm=60) if isinstance(a, Start)] == [
        "t0",
        "t1",
        *(one.task for one in plain),
    ]
    assert len(plan(asking, [host], [], now=0, warm=60)) == 2
    assert len(plan(asking, [replace(host, disk=math.inf)], [], now=0, warm=60)) == 3, "a disk that nobody has measured"


def test_idle_actors_that_keep_disk_make_room() -> None:
    host = replace(HOST, disk=30 * GIB)
    large = candidate("a", kind(disk=25 * GIB))
    actions = plan([large], [host], [idle("x", kind(disk=10 * GIB))], now=1, warm=60)
    assert actions == [Retire(holder="x"), Start(task="a", host="h1", kind=large.kind)]


def test_a_task_that_wants_a_whole_machine_gets_all_of_one_that_carries_nothing_and_is_alone_there() -> None:
    other = replace(HOST, id="h2")
    queue = [candidate("whole", WHOLE), candidate("small")]
    actions = plan(queue, [HOST, other], [busy("x", kind(0.1))], now=0, warm=60)
    assert actions == [Start(task="whole", host="h2", kind=ON_HOST), Start(task="small", host="h1", kind=kind())]
    assert (ON_HOST.resources.cpus, ON_HOST.resources.memory) == (HOST.cpus, HOST.memory)
    assert plan([candidate("tiny", kind(0.01))], [HOST], [busy("x", ON_HOST)], now=0, warm=60) == []
    assert not free_places([HOST], [busy("x", ON_HOST)])


def test_a_machine_is_kept_free_for_a_task_that_wants_all_of_it() -> None:
    queue = [candidate("whole", WHOLE), candidate("small")]
    assert plan(queue, [HOST], [busy("x", kind(0.1))], now=0, warm=60) == []


def test_what_is_idle_ends_for_a_task_that_wants_the_whole_machine_or_takes_it() -> None:
    holders = [idle("x", since=1), idle("y", since=0)]
    assert plan([candidate("whole", WHOLE)], [HOST], holders, now=2, warm=60) == [
        Retire(holder="y"),
        Retire(holder="x"),
        Start(task="whole", host="h1", kind=ON_HOST),
    ]
    assert plan([candidate("whole", WHOLE)], [HOST], [idle("x", ON_HOST)], now=2, warm=60) == [
        Reuse(task="whole", holder="x")
    ]


def test_a_machine_that_carries_something_is_filled_before_an_idle_one_whatever_their_sizes() -> None:
    large, small = replace(HOST, id="large", cpus=16.0, memory=64 * GIB), replace(HOST, id="small")
    actions = plan([candidate("a", kind(0.5))], [small, large], [busy("x", host="large")], now=0, warm=60)
    assert actions == [Start(task="a", host="large", kind=kind(0.5))]
    warm = [idle("x", host="small"), busy("y", kind(2.0), host="large"), idle("z", host="large")]
    for holders in (warm, warm[::-1]):
        assert plan([candidate("a")], [small, large], holders, now=0, warm=60) == [Reuse(task="a", holder="z")]


def test_of_machines_alike_the_one_that_has_the_environment_is_taken() -> None:
    has = replace(HOST, id="has", environments=frozenset({kind().environment}))
    other = replace(HOST, id="other", environments=frozenset({kind(simulator="calculix").environment}))
    for hosts in ([HOST, other, has], [has, other, HOST]):
        assert plan([candidate("a")], hosts, [], now=0, warm=60) == [Start(task="a", host="has", kind=kind())]
    actions = plan([candidate("a")], [HOST, has], [busy("x")], now=0, warm=60)
    assert actions == [Start(task="a", host="h1", kind=kind())], "that one can end"


def test_of_machines_alike_the_one_that_has_the_inputs_is_taken() -> None:
    near = replace(candidate("a", kind(0.5)), near=("gone", "h2"))
    other = replace(HOST, id="h2")
    start = [Start(task="a", host="h2", kind=kind(0.5))]
    assert plan([near], [HOST, other], [], now=0, warm=60) == start
    fuller = [busy("x", kind(1.0)), busy("y", kind(0.5), host="h2")]
    assert plan([near], [HOST, other], fuller, now=0, warm=60) == start, "it matters more than which one is fuller"
    elsewhere = [Start(task="a", host="h1", kind=kind(0.5))]
    assert plan([near], [HOST, other], fuller[:1], now=0, warm=60) == elsewhere, "the other one can end"
    full = [busy("x"), busy("y", kind(2.0), host="h2")]
    assert plan([near], [HOST, other], full, now=0, warm=60) == elsewhere
    has = replace(HOST, environments=frozenset({kind().environment}))
    assert plan([near], [has, other], [], now=0, warm=60) == elsewhere, "an environment takes longer"


def test_of_warm_actors_one_that_is_near_the_inputs_is_taken_and_the_others_stay() -> None:
    queue = [replace(candidate(task), near=("h2",)) for task in ("a", "b", "c")]
    hosts = [HOST, replace(HOST, id="h2")]
    warm = [idle("x"), idle("y", host="h2"), idle("z")]
    for holders in (warm, warm[::-1]):
        actions = plan(queue[:1], hosts, holders, now=1, warm=60)
        assert actions == [Reuse(task="a", holder="y")]
        taken = [action.holder for action in plan(queue, hosts, holders, now=1, warm=60) if isinstance(action, Reuse)]
        assert taken[0] == "y"
        assert sorted(taken) == ["x", "y", "z"]
    busy_there = [*warm, busy("w", kind(0.5))]
    assert plan(queue[:1], hosts, busy_there, now=1, warm=60) == [Reuse(task="a", holder="z")], "the other one can end"


kinds = st.builds(
    kind,
    st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0]),
    memory=st.sampled_from([GIB, 3 * GIB]),
    gpus=st.integers(0, 1),
    disk=st.sampled_from([20 * GIB, GIB, 6 * GIB]),
) | st.just(WHOLE)


@given(
    queue=st.lists(kinds, max_size=12),
    near=st.lists(st.sampled_from([(), ("h1",), ("h2", "gone"), ("h2", "h1")]), min_size=12, max_size=12),
    held=st.lists(st.tuples(kinds, st.sampled_from(["h1", "h2"]), st.booleans()), max_size=6),
)
def test_a_plan_never_overfills_a_machine_nor_uses_anything_twice(
    queue: list[Kind], near: list[tuple[str, ...]], held: list[tuple[Kind, str, bool]]
) -> None:
    hosts = {h: Host(id=h, group="local", cpus=4.0, memory=8 * GIB, gpus=1, disk=10 * GIB) for h in ("h1", "h2")}
    all_of_it = (4.0 + 1e-6, 8 * GIB, 1, 10 * GIB)
    holders, taken = [], {h: [0.0, 0.0, 0.0, 0.0] for h in hosts}
    for i, (asked, host, is_idle) in enumerate(held):
        of = placed(asked, hosts[host])
        total = [has + more for has, more in zip(taken[host], amounts(of), strict=True)]
        if all(has <= most for has, most in zip(total, all_of_it, strict=True)):
            taken[host] = total
            holders.append(idle(f"x{i}", of, host=host) if is_idle else busy(f"x{i}", of, host=host))
    candidates = [replace(candidate(f"t{i}", k), near=near[i]) for i, k in enumerate(queue)]
    actions = plan(candidates, list(hosts.values()), holders, now=1, warm=60)
    # What is near changes where tasks go, and not how many of a kind alone do.
    if len({of.resources for of in queue}) == 1:
        blind = plan([replace(one, near=()) for one in candidates], list(hosts.values()), holders, now=1, warm=60)
        assert sum(isinstance(one, Reuse | Start) for one in actions) == sum(
            isinstance(one, Reuse | Start) for one in blind
        )
    by_name = {h.name: h for h in holders}
    used_tasks: list[str] = []
    used_holders: list[str] = []
    for action in actions:
        match action:
            case Reuse(task=task, holder=holder):
                used_tasks.append(task)
                used_holders.append(holder)
                assert by_name[holder].idle_since is not None
                there = by_name[holder]
                assert there.kind == placed(queue[int(task[1:])], hosts[there.host])
            case Retire(holder=holder):
                used_holders.append(holder)
                gone = by_name[holder]
                assert gone.idle_since is not None
                for i, amount in enumerate(amounts(gone.kind)):
                    taken[gone.host][i] -= amount
            case Start(task=task, host=host, kind=of):
                used_tasks.append(task)
                assert of == placed(queue[int(task[1:])], hosts[host])
                for i, amount in enumerate(amounts(of)):
                    taken[host][i] += amount
                assert all(has <= most for has, most in zip(taken[host], all_of_it, strict=True))
    assert len(set(used_tasks)) == len(used_tasks)
    assert len(set(used_holders)) == len(used_holders)


def amounts(of: Kind) -> tuple[float, ...]:
    need = of.resources
    return need.cpus, need.memory, need.gpus, need.reserved_disk


def test_large_tasks_that_fit_nowhere_look_at_each_machine_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    make_room = module._make_room

    def counted(room: module._Room, need: Resources) -> list[Holder] | None:
        nonlocal looks
        looks += 1
        return make_room(room, need)

    monkeypatch.setattr(module, "_make_room", counted)
    hosts = [replace(HOST, id=f"h{i}") for i in range(200)]
    holders = [busy(f"x{host.id}", host=host.id) for host in hosts]
    holders += [idle(f"y{host.id}", kind(0.5), host=host.id) for host in hosts]
    queue = [candidate(f"t{i}", kind(2.0)) for i in range(1000)]
    assert plan(queue, hosts, holders, now=0, warm=60) == []
    assert looks == len(hosts)


@pytest.mark.parametrize("of", [kind(0.5), WHOLE])
def test_a_plan_looks_at_no_machine_again_and_again(monkeypatch: pytest.MonkeyPatch, of: Kind) -> None:
    looks = 0
    fits = module._Room.fits

    def counted(room: module._Room, need: Resources) -> bool:
        nonlocal looks
        looks += 1
        return fits(room, need)

    monkeypatch.setattr(module._Room, "fits", counted)
    hosts = [replace(HOST, id=f"h{i}") for i in range(200)]
    taken = 0

    def queue() -> Iterator[Candidate]:
        nonlocal taken
        for taken in range(1, 10_001):
            yield candidate(f"t{taken}", of)

    actions = plan(queue(), hosts, [busy("x", kind(2.0))], now=0, warm=60)
    places = len(actions)
    assert places == (796 if of is not WHOLE else 199)
    assert taken == places, "of the queue only as much is taken as can matter"
    assert looks <= 4 * (places + len(hosts)), "each machine is looked at a few times, and each task looks at few"
