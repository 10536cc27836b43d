"""The actors that a dispatcher knows."""

from __future__ import annotations

from dataclasses import replace

from tasks.crew import Crew, Held
from tests.unit.tasks.test_placement import busy

KEY = ("t1", 1)


def test_an_actor_is_found_by_its_name_and_by_what_it_carries() -> None:
    crew = Crew()
    a = Held(holder=busy("a"), carries=KEY)
    crew.put(a)
    assert (crew.get("a"), crew.carrier(*KEY)) == (a, a)
    assert (crew.get("b"), crew.get(None), crew.carrier("t1", 2)) == (None, None, None)
    idle = replace(a, carries=None)
    crew.put(idle)
    assert (crew.get("a"), crew.carrier(*KEY)) == (idle, None)


def test_whoever_took_an_attempt_over_carries_it_also_once_the_first_one_is_forgotten() -> None:
    crew = Crew()
    first, second = Held(holder=busy("a"), carries=KEY), Held(holder=busy("b"), carries=KEY)
    crew.put(first)
    crew.put(second)
    assert crew.drop("a") == first
    assert crew.carrier(*KEY) == second
    assert crew.drop("a") is None
    crew.drop("b")
    assert (crew.carrier(*KEY), list(crew)) == (None, [])
