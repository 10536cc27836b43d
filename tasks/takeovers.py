"""The attempts that were taken over and not heard of since, and when the next actor may try; it is given the time."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator
from dataclasses import dataclass

_FIRST_REST = 1.0
_MOST = 8
"""So many actors in a row may die as they take an attempt over; that takes 90 seconds with their rests."""


@dataclass
class _Silence:
    """What is known of an attempt that nobody has heard of."""

    actors: int
    """So many in a row were told to take it over."""
    rests_until: float | None = None


class Takeovers:
    """The attempts that an actor was told to take over, and of which nothing was heard since; safe to use from threads.

    Where actors die as they take over, their machine may have no memory or no processes left for a while. The run goes
    on meanwhile, and is not to be given up within seconds: each next actor comes after twice as long a rest as the one
    before it. They are all started by one dispatcher, so rests need no jitter.

    Args:
        longest: the longest rest in seconds.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.Lock()
        self._silences: dict[tuple[str, int], _Silence] = {}

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Give the attempts, as they were at the beginning."""
        return iter(list(self._silences))

    def begin(self, key: tuple[str, int]) -> None:
        """Take note that an actor was told to take an attempt over."""
        with self._lock:
            before = self._silences.get(key)
            self._silences[key] = _Silence(1 if before is None else before.actors + 1)

    def hear(self, key: tuple[str, int]) -> bool:
        """Take note of a word from an attempt; says whether its next actor rests no more."""
        with self._lock:
            silence = self._silences.pop(key, None)
        return silence is not None and silence.rests_until is not None

    def is_hopeless(self, key: tuple[str, int], *, is_late: bool) -> bool:
        """Say whether no other actor is to try: too many have died, or the last one said nothing for a whole lease."""
        with self._lock:
            silence = self._silences.get(key)
            return silence is not None and (is_late or silence.actors >= _MOST)

    def rest(self, key: tuple[str, int], now: float) -> bool:
        """Say whether an attempt's next actor is to rest first; the rest begins now, or has begun before."""
        with self._lock:
            if (silence := self._silences.get(key)) is None:
                return False
            if silence.rests_until is None:
                silence.rests_until = now + min(self._longest, _FIRST_REST * 2 ** (silence.actors - 1))
            return True

    def rests(self, key: tuple[str, int], now: float) -> bool | None:
        """Say whether the rest before an attempt's next actor goes on; None where there is none (any more)."""
        with self._lock:
            silence = self._silences.get(key)
            if silence is None or silence.rests_until is None:
                return None
            goes_on = now < silence.rests_until
            if not goes_on:
                silence.rests_until = None
            return goes_on

    def forget(self, going: Container[tuple[str, int]]) -> list[tuple[str, int]]:
        """Forget all but the attempts that go on; returns those that had a rest."""
        with self._lock:
            over = {key: silence for key, silence in self._silences.items() if key not in going}
            for key in over:
                del self._silences[key]
        return [key for key, silence in over.items() if silence.rests_until is not None]
