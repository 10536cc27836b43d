"""How long to wait before a request is made again, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long requests are repeated, in seconds, and how time passes (a test moves its own)."""

    first: float = 1.5
    """While the server has never answered: it is probably not there."""
    later: float = 60.0
    """Once it has answered: it is probably restarting, or the network is away."""
    base: float = 0.1
    """The first pause."""
    cap: float = 5.0
    """The longest pause."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = field(default=random.random)


class Backoff:
    """The pauses of one request: doubling, with jitter, until `limit` seconds have passed since the last success."""

    def __init__(self, patience: Patience, limit: Callable[[], float]) -> None:
        self._patience = patience
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Start anew, because something arrived."""
        self.keep()
        self._pause = self._patience.base

    def keep(self) -> None:
        """Give the full time again, because the other side is there."""
        self._ends = self._patience.clock() + self._limit()

    def pause(self, at_least: float | None = None) -> bool:
        """Sleep and return True, or return False at once where the patience has ended."""
        left = self._ends - self._patience.clock()
        if left <= 0:
            return False
        wait = self._pause * (0.5 + self._patience.chance() / 2)
        self._pause = min(self._pause * 2, self._patience.cap)
        if at_least is not None:
            # A server that says when to come back knows better, within reason.
            wait = max(wait, min(at_least, 30.0))
        self._patience.sleep(min(wait, left))
        return True
