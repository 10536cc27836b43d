"""One machine as several."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from cluster.member import Member
from cluster.workers import Share, Workers, divide
from simyard.errors import InvalidInput


def test_shares_are_even_and_the_first_is_never_the_smaller_one() -> None:
    shares = divide("vm", 11, 4000, 800, 4)
    assert [share.cpus for share in shares] == [3, 3, 3, 2]
    assert {share.memory for share in shares} == {1000}
    assert [share.name for share in shares] == ["vm", "vm-2", "vm-3", "vm-4"]
    assert divide("vm", 2, 4000, 800, 1) == (Share(name="vm", cpus=2, memory=4000, disk=800),)


@pytest.mark.parametrize("number", [-1, 0, 5])
def test_a_machine_cannot_show_as_none_or_as_more_than_it_has_cores(number: int) -> None:
    with pytest.raises(InvalidInput, match="4 cores") as refused:
        divide("vm", 4, 4000, 800, number)
    assert refused.value.field == "--workers"


def test_a_worker_that_dies_is_started_again_and_one_that_cannot_live_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds, alive, starts = [1000.0], [False], list[Any]()
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(Member, "is_alive", lambda _: alive[0])
    monkeypatch.setattr(Member, "start", lambda member: starts.append((seconds[0], member.plan.name, member.plan.gpus)))
    kept = Workers()
    kept.begin("127.0.0.1:1", "local", divide("vm", 4, 4000, 800, 2), {})
    assert starts == [(1000.0, "vm-2", 0)], "the head has the first share, and the GPUs"
    alive[0] = True
    seconds[0] += 500
    assert kept.look() == ()
    alive[0] = False
    assert kept.look() == ("vm-2",)
    for _ in range(600):
        seconds[0] += 1
        kept.look()
    pauses = [later[0] - earlier[0] for earlier, later in itertools.pairwise(starts[1:])]
    assert pauses[:4] == [2.0, 5.0, 15.0, 60.0]
    assert set(pauses[4:]) == {60.0}
