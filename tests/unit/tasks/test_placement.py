"""What the dispatcher decides, from plain data."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from simyard.resources import GIB, Resources
from simyard.simulator import RuntimeName
from tasks.placement import Candidate, Holder, Host, Kind, Retire, Reuse, Start, has_room, plan

HOST = Host(id="h1", group="local", cpus=2.0, memory=4 * GIB, gpus=0)


def kind(cpus: float = 1.0, *, memory: int = GIB, gpus: int = 0, simulator: str = "swmm") -> Kind:
    resources = Resources(cpus=cpus, memory=memory, gpus=gpus)
    return Kind(simulator=simulator, version="1", runtime=RuntimeName.NATIVE, resources=resources)


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
    assert has_room([HOST], [busy("x", kind(1.5))])
    assert has_room([HOST], [busy("x"), idle("y")])
    assert not has_room([HOST], [busy("x"), busy("y")])
    assert not has_room([HOST], [busy("x", kind(1.0, memory=4 * GIB))])
    assert not has_room([], [idle("x")])
    assert not has_room([replace(HOST, is_set_aside=True)], [idle("x")])


def test_ten_tenths_of_a_core_fit_into_one() -> None:
    host = Host(id="h1", group="local", cpus=1.0, memory=64 * GIB, gpus=0)
    queue = [candidate(f"t{i}", kind(0.1)) for i in range(11)]
    assert len(plan(queue, [host], [], now=0, warm=60)) == 10


kinds = st.builds(
    kind, st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0]), memory=st.sampled_from([GIB, 3 * GIB]), gpus=st.integers(0, 1)
)


@given(
    queue=st.lists(kinds, max_size=12),
    held=st.lists(st.tuples(kinds, st.sampled_from(["h1", "h2"]), st.booleans()), max_size=6),
)
def test_a_plan_never_overfills_a_machine_nor_uses_anything_twice(
    queue: list[Kind], held: list[tuple[Kind, str, bool]]
) -> None:
    hosts = {h: Host(id=h, group="local", cpus=4.0, memory=8 * GIB, gpus=1) for h in ("h1", "h2")}
    holders, taken = [], {h: [0.0, 0, 0] for h in hosts}
    for i, (of, host, is_idle) in enumerate(held):
        need, room = of.resources, hosts[host]
        total = [taken[host][0] + need.cpus, taken[host][1] + need.memory, taken[host][2] + need.gpus]
        if total[0] <= room.cpus and total[1] <= room.memory and total[2] <= room.gpus:
            taken[host] = total
            holders.append(idle(f"x{i}", of, host=host) if is_idle else busy(f"x{i}", of, host=host))
    actions = plan([candidate(f"t{i}", k) for i, k in enumerate(queue)], list(hosts.values()), holders, now=1, warm=60)
    by_name = {h.name: h for h in holders}
    used_tasks: list[str] = []
    used_holders: list[str] = []
    for action in actions:
        match action:
            case Reuse(task=task, holder=holder):
                used_tasks.append(task)
                used_holders.append(holder)
                assert by_name[holder].idle_since is not None
                assert by_name[holder].kind == queue[int(task[1:])]
            case Retire(holder=holder):
                used_holders.append(holder)
                gone = by_name[holder]
                assert gone.idle_since is not None
                for i, amount in enumerate(
                    (gone.kind.resources.cpus, gone.kind.resources.memory, gone.kind.resources.gpus)
                ):
                    taken[gone.host][i] -= amount
            case Start(task=task, host=host, kind=of):
                used_tasks.append(task)
                for i, amount in enumerate((of.resources.cpus, of.resources.memory, of.resources.gpus)):
                    taken[host][i] += amount
                assert taken[host][0] <= 4.0 + 1e-6
                assert taken[host][1] <= 8 * GIB
                assert taken[host][2] <= 1
    assert len(set(used_tasks)) == len(used_tasks)
    assert len(set(used_holders)) == len(used_holders)
