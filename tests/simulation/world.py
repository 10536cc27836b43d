"""Simulated time: events in the order in which they are due, one source of chance, and a record of the last steps."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEPT_STEPS = 300


class Crash(BaseException):
    """The process in which this is raised is dead: nothing in it may go on."""


class PromiseBroken(BaseException):
    """The queue did what it must never do."""


class World:
    """The time, the chance and the events of one simulation.

    `at` is the true time in seconds; `now` is what the machine's clock shows, which somebody may have set wrong.
    """

    def __init__(self, seed: int, *, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.chance = self.random.random
        self.at = 0.0
        self.skew = 0.0
        self.steps = 0
        self.depth = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._trace: deque[tuple[Any, ...]] = deque(maxlen=KEPT_STEPS)
        self._tell = trace

    def now(self) -> datetime:
        """Return what the clock on the wall shows."""
        return BEGIN + timedelta(seconds=self.at + self.skew)

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return self.at

    def between(self, low: float, high: float) -> float:
        """Return a number between two."""
        return low + (high - low) * self.chance()

    def around(self, mean: float) -> float:
        """Return a waiting time: mostly short, seldom long, `mean` on average."""
        return self.random.expovariate(1.0 / mean)

    def after(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        """Let something happen later."""
        self._number += 1
        heapq.heappush(self._due, (self.at + seconds, self._number, act, arguments))

    def note(self, *words: Any) -> None:
        """Keep a step for whoever has to find out what went wrong."""
        self.steps += 1
        self._trace.append((self.at, *words))
        if self._tell is not None:
            self._tell(_line(self._trace[-1]))

    def story(self, last: int = 60) -> str:
        """Return the last steps, one a line."""
        return "\n".join(_line(step) for step in list(self._trace)[-last:])

    def run(self, until: float) -> None:
        """Let everything happen that is due until a moment; the time is that moment then."""
        due = self._due
        while due and due[0][0] <= until:
            at, _, act, arguments = heapq.heappop(due)
            self.at = max(self.at, at)
            act(*arguments)
        self.at = max(self.at, until)

    def next_due(self) -> float | None:
        """Return when the next thing happens; None when nothing will."""
        return self._due[0][0] if self._due else None


def _line(step: tuple[Any, ...]) -> str:
    at, *words = step
    return f"{at:12.4f}  " + " ".join(str(word) for word in words)
