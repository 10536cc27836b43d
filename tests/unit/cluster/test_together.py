"""Threads that ask for the same thing at about the same time."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cluster.together import Together


def asked(together: Together, asks: list[tuple[str, int]], error: Exception | None = None) -> list[tuple[str, int]]:
    """Let as many threads ask, all of them before any is answered; return what was asked for."""
    found: list[tuple[str, int]] = []
    lock, start = threading.Lock(), threading.Barrier(len(asks))

    def one(what: str, count: int) -> None:
        def act(total: int) -> None:
            with lock:
                found.append((what, total))
            if error is not None:
                raise error

        start.wait(30)
        together.ask(what, count, act)

    with ThreadPoolExecutor(len(asks)) as threads:
        calls: list[Future[None]] = [threads.submit(one, *ask) for ask in asks]
        for call in calls:
            if error is None:
                call.result(30)
            else:
                with pytest.raises(ValueError, match=r"^none$"):
                    call.result(30)
    return sorted(found)


def test_those_that_ask_together_are_one_request_and_others_are_another() -> None:
    together = Together(quiet=0.5)
    assert asked(together, [("a", 1)] * 8 + [("b", 2), ("b", 1)]) == [("a", 8), ("b", 3)]
    assert asked(together, [("a", 1)]) == [("a", 1)], "it begins anew"


def test_each_is_told_of_the_failure_of_all() -> None:
    together = Together(quiet=0.5)
    assert asked(together, [("a", 1)] * 5, ValueError("none")) == [("a", 5)]
    assert asked(together, [("a", 1)] * 2) == [("a", 2)]
