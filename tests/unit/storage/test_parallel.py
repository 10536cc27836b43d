"""The same work on many things."""

from __future__ import annotations

import threading

import pytest

from storage.errors import Stopped
from storage.parallel import each


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_answers_come_in_the_order_of_the_things(count: int) -> None:
    assert list(each(lambda number: number * 2, iter(range(count)), threads=4)) == [2 * n for n in range(count)]


def test_a_single_thing_takes_no_thread() -> None:
    assert list(each(lambda _: threading.current_thread(), ["one"])) == [threading.current_thread()]
    assert threading.current_thread() not in list(each(lambda _: threading.current_thread(), ["one", "two"]))


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_begun_once_it_was_told_to_stop(count: int) -> None:
    begun: list[int] = []
    with pytest.raises(Stopped):
        list(each(begun.append, range(count), stopped=lambda: True))
    assert not begun
