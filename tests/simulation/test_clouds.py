"""Nothing leaks in simulated clouds and nothing is ended wrongly; a reconciler that is broken on purpose shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.provider import Instance, Kind
from cluster.reconciler import Asked, End, Look, Members, Memory, Rules, reconcile
from tests.simulation.clouds import BOUND, Decide, World

FAULTS = 10_000
A_LIFE = 100


@pytest.mark.parametrize("keeps_stopped", [False, True])
def test_ten_thousand_faults_leak_nothing_and_end_nothing_wrongly(*, keeps_stopped: bool) -> None:
    faults: Counter[str] = Counter()
    ended, seed = 0, 0
    while faults.total() < FAULTS:
        world = World(seed, keeps_stopped=keeps_stopped)
        world.run(A_LIFE)
        assert not world.wrong, f"seed {seed}: wrongly ended: {world.wrong}"
        assert not world.leaked, f"seed {seed}: left {BOUND:g} s after the last fault: {world.leaked}"
        faults += world.faults
        ended += world.ended
        seed += 1
    assert min(faults.values()) > FAULTS / 50, faults
    assert ended > FAULTS / 20


def forgets_nothing_when_the_head_is_new(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    head = memory.head or "any"
    members = None if look.members is None else replace(look.members, head=head)
    return reconcile(memory, replace(look, members=members), asked, rules)


def takes_no_answer_of_ray_for_no_members(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    members = look.members or Members(head=memory.head, instances=frozenset(), addresses=frozenset())
    return reconcile(memory, replace(look, members=members), asked, rules)


def knows_machines_by_their_ids_alone(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    members = None if look.members is None else replace(look.members, addresses=frozenset())
    return reconcile(memory, replace(look, members=members), asked, rules)


def ends_heads_too(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    workers = None if look.listed is None else tuple(replace(o, kind=Kind.WORKER) for o in look.listed)
    return reconcile(memory, replace(look, listed=workers), asked, rules)


def ends_machines_of_others(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    ours = None if look.listed is None else tuple(replace(o, cluster=asked.cluster) for o in look.listed)
    return reconcile(memory, replace(look, listed=ours), asked, rules)


def ends_machines_of_a_rival(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    def blind(one: Instance) -> bool:
        return one.kind is not Kind.HEAD or one.generation == asked.generation

    listed = None if look.listed is None else tuple(filter(blind, look.listed))
    return reconcile(memory, replace(look, listed=listed), asked, rules)


def waits_for_no_boot(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    return reconcile(memory, look, asked, replace(rules, join=timedelta(0)))


def has_no_grace(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    return reconcile(memory, look, asked, replace(rules, grace=timedelta(0), looks=1))


def minds_no_pause_between_looks(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    return reconcile(memory, look, asked, replace(rules, gap=float("inf")))


def counts_a_look_that_was_none(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    after, ends = reconcile(memory, look, asked, rules)
    return replace(after, looked_at=look.clock), ends


def keeps_what_a_list_left_out(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    after, ends = reconcile(memory, look, asked, rules)
    return replace(after, alone={**memory.alone, **after.alone}), ends


def asks_once(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    return reconcile(memory, look, asked, replace(rules, pauses=(float("inf"),)))


def ends_nothing(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    after, _ = reconcile(memory, look, asked, rules)
    return after, ()


def takes_what_has_stopped_for_gone(
    memory: Memory, look: Look, asked: Asked, rules: Rules
) -> tuple[Memory, tuple[End, ...]]:
    listed = None if look.listed is None else tuple(replace(one, is_left_over=False) for one in look.listed)
    return reconcile(memory, replace(look, listed=listed), asked, rules)


def is_too_patient(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    return reconcile(memory, look, asked, replace(rules, grace=timedelta(minutes=11)))


@pytest.mark.parametrize(
    "broken",
    [
        asks_once,
        counts_a_look_that_was_none,
        ends_heads_too,
        ends_machines_of_a_rival,
        ends_machines_of_others,
        ends_nothing,
        forgets_nothing_when_the_head_is_new,
        has_no_grace,
        is_too_patient,
        keeps_what_a_list_left_out,
        knows_machines_by_their_ids_alone,
        minds_no_pause_between_looks,
        takes_what_has_stopped_for_gone,
        takes_no_answer_of_ray_for_no_members,
        waits_for_no_boot,
    ],
)
def test_a_reconciler_that_is_broken_on_purpose_is_noticed(broken: Decide) -> None:
    for seed in range(200):
        world = World(seed, decide=broken, keeps_stopped=seed % 2 == 1)
        world.run(A_LIFE)
        if world.wrong or world.leaked:
            return
    raise AssertionError("no world has noticed")
