"""The promises of the queue hold in worlds of faults, and worlds in which the core is broken on purpose show it."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import pytest

from tests.simulation.faults import Faults, none
from tests.simulation.many import play, seeds_for
from tests.simulation.mutants import (
    KEPT_MUTANTS,
    MUTANTS,
    PACKED_MUTANTS,
    REUSE_MUTANTS,
    SHARED_MUTANTS,
    STANDBY_MUTANTS,
    Mutant,
)
from tests.simulation.simulate import KEPT, PACKED, REUSED, SHARED, SPREAD, STANDBY, Broken, simulate

LIVES = 30_000
"""`python -m tests.simulation --lives 1000000` plays as many worlds as one likes."""
_FEW = 6000
"""For each of what only some worlds have."""
_SECONDS = 150.0
"""After these it is enough that so many have lived: hours differ in speed by a factor of two, as machines do."""
_KNOWN = [int(line.split()[0]) for line in Path(__file__).with_name("seeds.txt").read_text().splitlines()[1:]]


@pytest.mark.timeout(1200)
def test_all_promises_hold_in_worlds_of_faults() -> None:
    third = LIVES // 3
    kinds = [seeds_for(third, first) for first in (1000, SHARED, PACKED)]
    kinds += [seeds_for(_FEW, first) for first in (REUSED, KEPT, STANDBY + 2, SPREAD)]
    # One of each kind in turn, so that none is left out where time is short.
    seeds = [seed for turn in zip_longest(*kinds) for seed in turn if seed is not None]
    lives, broken = play([*_KNOWN, *seeds], seconds=_SECONDS, enough=LIVES)
    assert not broken, broken[0]
    assert lives >= LIVES


def test_a_world_without_faults_runs_each_task_once() -> None:
    report = simulate(3, 150, faults=none())
    assert report.crashes == 0
    assert report.lives >= 150


def test_the_same_seed_gives_the_same_world() -> None:
    assert simulate(5, 60) == simulate(5, 60)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mutant", "faults"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS])
def test_a_core_that_is_broken_on_purpose_is_noticed(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutant, faults: Faults
) -> None:
    simulate(0, 100, faults=faults)
    mutant(monkeypatch)
    with pytest.raises(Broken):
        for seed in range(30):
            simulate(seed, 100, faults=faults)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", SHARED_MUTANTS, ids=[mutant.__name__ for mutant in SHARED_MUTANTS])
def test_what_users_ask_of_each_other_is_noticed_where_it_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Broken):
        for seed in range(SHARED, SHARED + 30):
            simulate(seed, 100, faults=none())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mutant", "first"), PACKED_MUTANTS, ids=[mutant.__name__ for mutant, _ in PACKED_MUTANTS])
def test_a_machine_that_is_given_twice_is_noticed(monkeypatch: pytest.MonkeyPatch, mutant: Mutant, first: int) -> None:
    mutant(monkeypatch)
    with pytest.raises(Broken):
        for seed in range(first, first + 30):
            simulate(seed, 100, faults=none())


_TELLING = REUSE_MUTANTS + KEPT_MUTANTS + STANDBY_MUTANTS


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mutant", "first", "says"), _TELLING, ids=[mutant.__name__ for mutant, *_ in _TELLING])
def test_what_is_broken_is_noticed_by_the_promise_that_it_breaks(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutant, first: int, says: str
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Broken, match=says):
        for seed in range(first, first + 30):
            simulate(seed, 100, faults=none())
