"""Tasks that run on several machines at once: what is planned for them, and what the dispatcher makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.work import Place, Report
from simyard.group import MachineGroup
from simyard.reason import ReasonCode
from simyard.resources import GIB, Resources
from simyard.status import Status
from tasks.explain import explain
from tasks.holders import Broken, Gone, HolderState
from tasks.placement import Action, Candidate, Holder, Host, Kind, Retire, Start, plan
from tasks.rules import Quota
from tests.unit.tasks.test_desk_packing import Yard
from tests.unit.tasks.test_placement import HOST, busy, candidate, idle, kind

HOSTS = [replace(HOST, id=f"h{i}") for i in (1, 2, 3)]


def over(machines: int, of: Kind | None = None) -> Kind:
    one = of or kind(2.0)
    return replace(one, resources=one.resources.model_copy(update={"machines": machines}))


def planned(*queue: Kind, hosts: list[Host] = HOSTS, holders: list[Holder] | None = None) -> list[Action]:
    found = [candidate(name, one) for name, one in zip("abcdef", queue, strict=False)]
    return plan(found, hosts, holders or [], now=1, warm=60)


def test_a_task_gets_all_of_its_machines_or_none() -> None:
    assert planned(over(2)) == [Start(task="a", host="h1", kind=over(2), others=("h2",))]
    assert planned(over(3), holders=[busy("x", host="h2")]) == []
    assert planned(over(4)) == []


def test_machines_are_kept_for_it_while_it_waits_so_that_smaller_ones_cannot_keep_it_waiting_for_ever() -> None:
    assert planned(over(3), kind(), holders=[busy("x", host="h2")]) == []
    working = [busy("x", host="h2"), busy("y", kind(1.5), host="h3")]
    assert planned(over(2), kind(0.5), kind(0.5), holders=working) == [Start(task="b", host="h3", kind=kind(0.5))], (
        "the two that can be had soonest are kept, and the third one not"
    )


def test_nothing_is_kept_where_there_will_not_be_enough_machines() -> None:
    assert planned(over(4), kind()) == [Start(task="b", host="h1", kind=kind())]


def test_two_that_wait_cannot_keep_each_other_waiting() -> None:
    holders = [busy("x", host="h1")]
    assert planned(over(3), over(3), holders=holders) == []
    assert planned(over(3), over(2), holders=holders) == []
    assert planned(over(3), over(3)) == [Start(task="a", host="h1", kind=over(3), others=("h2", "h3"))]


def test_what_is_idle_ends_on_each_of_its_machines() -> None:
    holders = [idle("x", host="h1"), idle("y", host="h2"), busy("z", kind(2.0), host="h3")]
    assert planned(over(2), holders=holders) == [
        Retire(holder="x"),
        Retire(holder="y"),
        Start(task="a", host="h1", kind=over(2), others=("h2",)),
    ]


def test_one_that_runs_takes_room_on_all_of_its_machines_and_has_none_once_it_is_idle() -> None:
    runs = replace(busy("x", over(2), host="h1"), others=("h2",))
    assert planned(kind(2.0), holders=[runs]) == [Start(task="a", host="h3", kind=kind(2.0))]
    over_now = replace(runs, idle_since=0.5)
    assert planned(over(3), holders=[over_now]) == [
        Retire(holder="x"),
        Start(task="a", host="h1", kind=over(3), others=("h2", "h3")),
    ], "it is never given another task"


def test_whole_machines_that_differ_give_what_the_smallest_one_has() -> None:
    hosts = [HOSTS[0], replace(HOSTS[1], memory=3 * GIB)]
    whole = replace(kind(), resources=Resources(whole_machine=True, machines=2))
    [start] = planned(whole, hosts=hosts)
    assert isinstance(start, Start)
    need = start.kind.resources
    assert (need.cpus, need.memory, need.machines, need.whole_machine) == (2.0, 3 * GIB, 2, True)
    assert planned(whole, hosts=hosts, holders=[busy("x", host="h2")]) == []


needs = st.builds(
    lambda cpus, machines, whole: replace(
        kind(), resources=Resources(cpus=cpus, machines=machines, whole_machine=whole)
    ),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(1, 4),
    st.booleans(),
)


@given(
    queue=st.lists(needs, max_size=10), taken=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=3, max_size=3)
)
def test_no_machine_is_overfilled_and_no_task_gets_a_part_of_its_machines(
    queue: list[Kind], taken: list[float]
) -> None:
    hosts = [replace(host, memory=1000 * GIB) for host in HOSTS]
    holders = [busy(f"x{h.id}", kind(c), host=h.id) for h, c in zip(hosts, taken, strict=True) if c]
    used = {h.id: c for h, c in zip(hosts, taken, strict=True)}
    tasks = [Candidate(task=str(i), group="local", kind=one) for i, one in enumerate(queue)]
    for action in plan(tasks, hosts, holders, now=1, warm=60):
        assert isinstance(action, Start)
        places = (action.host, *action.others)
        assert len(set(places)) == len(places) == queue[int(action.task)].resources.machines
        for host in places:
            used[host] += action.kind.resources.cpus
    assert all(cores <= 2.0 for cores in used.values())


def test_it_starts_in_the_end_however_many_small_ones_come() -> None:
    running = [busy(f"x{i}", host=f"h{i % 3 + 1}") for i in range(6)]
    for turn in range(20):
        queue = [candidate("large", over(3)), *(candidate(f"s{turn}-{i}") for i in range(6))]
        starts = [one for one in plan(queue, HOSTS, running, now=turn, warm=60) if isinstance(one, Start)]
        if any(one.task == "large" for one in starts):
            break
        running += [busy(one.task, host=one.host) for one in starts]
        running.pop(0)
    else:
        pytest.fail("small tasks keep it waiting")


# The dispatcher.


@pytest.fixture
def yard() -> Yard:
    return Yard()


NEED = Resources(cpus=3, machines=2)


def test_the_attempt_names_its_machines_and_its_actor_is_told_of_them(yard: Yard) -> None:
    task = yard.submit(NEED)
    yard.turn()
    [attempt] = yard.record(task).task.attempts
    assert {attempt.machine, *attempt.others} == {"small", "large"}
    [work] = yard.actors.given
    [other] = attempt.others
    ids = {host.name: host.id for host in yard.actors.hosts}
    assert work.others == (Place(name=other, node=ids[other]),)
    assert {one.name: one.cpus_free for one in yard.desk.groups()[0].machines} == {"small": 1, "large": 13}
    yard.finish(task)
    yard.turn()
    assert yard.actors.ended == [], "it tidies up"
    assert yard.actors.left["sim-1"](None), "that it has gone is news"
    yard.turn()
    assert yard.actors.ended == ["sim-1"]
    assert {one.name: one.cpus_free for one in yard.desk.groups()[0].machines} == {"small": 4, "large": 16}


def test_when_its_actor_has_gone_it_is_not_taken_over_but_tried_again(yard: Yard) -> None:
    task = yard.submit(NEED)
    yard.turn()
    yard.desk.report(task, 1, [Report(Status.RUNNING)])
    yard.actors.left["sim-1"](Gone())
    record = yard.record(task)
    assert (record.status, record.task.attempts[0].adoptions, yard.actors.adopted) == (Status.QUEUED, 0, [])
    assert record.task.attempts[0].reason is not None
    assert record.task.attempts[0].reason.code is ReasonCode.MACHINE_LOST


def test_a_machine_that_it_lost_gets_nothing_until_the_cluster_knows_of_it(yard: Yard) -> None:
    task = yard.submit(NEED)
    yard.turn()
    [other] = yard.record(task).task.attempts[0].others
    yard.actors.left["sim-1"](Broken("gone", machine=other))
    assert yard.record(task).status is Status.QUEUED
    for _ in range(9):
        yard.turn()
        assert yard.record(task).status is Status.QUEUED, "it would be lost at once again"
    yard.turn()
    yard.turn()
    assert yard.record(task).attempt == 2, "it was only its actor that had gone"


def test_it_counts_as_preempted_when_any_of_its_machines_is_taken_away(yard: Yard) -> None:
    task = yard.submit(NEED)
    yard.turn()
    [other] = yard.record(task).task.attempts[0].others
    yard.actors.hosts = tuple(replace(one, is_leaving=one.name == other) for one in yard.actors.hosts)
    yard.turn()
    yard.actors.left["sim-1"](Gone())
    reason = yard.record(task).task.attempts[0].reason
    assert reason is not None
    assert reason.code is ReasonCode.PREEMPTED


@pytest.mark.parametrize("answers", [True, False])
def test_a_new_dispatcher_knows_what_it_holds_on_each_machine(yard: Yard, answers: bool) -> None:
    task = yard.submit(NEED)
    yard.turn()
    [work] = yard.actors.given
    first = next(one for one in yard.actors.hosts if one.name == yard.machine_of(task))
    of = Kind(simulator=work.simulator, version=work.version, runtime=work.runtime, resources=work.resources)
    state = HolderState(host=first.id, kind=of, carries=(task, 1), others=(work.others[0].node,))
    yard.actors.living = {"sim-1": state if answers else None}
    yard.desk.recover()
    assert {one.name: one.cpus_free for one in yard.desk.groups()[0].machines} == {"small": 1, "large": 13}


def test_its_cores_on_all_machines_count_for_turns_and_quotas(yard: Yard) -> None:
    yard.store.set_quota(Quota(user="ada", cpus=5))
    task = yard.submit(NEED)
    yard.turn()
    assert yard.record(task).status is Status.QUEUED
    assert NEED.all_cpus == 6


def test_what_it_waits_for_is_explained(yard: Yard) -> None:
    task = yard.submit(Resources(cpus=3, machines=3))
    yard.turn()
    told = explain(yard.record(task), (), 0, yard.desk.groups()).next or ""
    assert "3 machines with 3 cpus" in told
    assert "has 2 that are large enough" in told
    two = yard.submit(NEED)
    full = MachineGroup(name="local", machines=yard.desk.groups()[0].machines)
    assert "A machine has room" in (explain(yard.record(two), (), 0, [full]).next or "")
