"""The same work on many things, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from storage.retries import check_stopped, never

T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
"""Transfers under way at a time: enough to hide a store's delay, few enough for its limits and our memory."""


def each(
    action: Callable[[T], R], things: Iterable[T], *, threads: int = THREADS, stopped: Callable[[], bool] = never
) -> Iterator[R]:
    """Give what the action returns for each thing, in order; the first error ends the work and passes through.

    Raises:
        Stopped: the work was told to stop; what had begun is finished first.
    """
    rest = iter(things)
    first = tuple(islice(rest, 2))
    if len(first) == 1:
        # A single thing is not worth a thread.
        check_stopped(stopped)
        yield action(first[0])
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="storage") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for thing in chain(first, rest):
                check_stopped(stopped)
                pending.append(pool.submit(action, thing))
                if len(pending) >= 2 * threads:
                    yield pending.popleft().result()
            while pending:
                check_stopped(stopped)
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
