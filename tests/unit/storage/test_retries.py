from __future__ import annotations

import pytest

from storage.errors import Stopped, StorageUnavailable
from storage.retries import Retries


def _failing(times: int, calls: list[int]) -> int:
    calls.append(1)
    if len(calls) <= times:
        raise StorageUnavailable
    return len(calls)


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    slept: list[float] = []
    calls: list[int] = []
    retries = Retries(tries=6, first=1, longest=5, sleep=slept.append, chance=lambda: 0.5)
    assert retries.run(lambda: _failing(5, calls)) == 6
    assert sum(slept) == pytest.approx(0.75 * (1 + 2 + 4 + 5 + 5))


def test_other_errors_are_not_tried_again() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        Retries(sleep=lambda _: None).run(fail)
    assert len(calls) == 1


def test_a_long_wait_ends_soon_after_being_told_to_stop() -> None:
    slept: list[float] = []
    with pytest.raises(Stopped):
        Retries(first=60, longest=60, sleep=slept.append).run(lambda: _failing(9, []), lambda: len(slept) >= 3)
    assert sum(slept) < 1
