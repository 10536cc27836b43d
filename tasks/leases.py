"""How long nothing was heard of the attempts that go on, by a clock that nobody sets; it is given the time."""

from __future__ import annotations

import math
import threading
from collections.abc import Container, Mapping

ATTENTIVE = 5.0
"""Seconds between two looks up to which nobody's report can have waited for this process."""


class Leases:
    """Which attempts have not been heard of for a whole lease; safe to use from several threads.

    A lease is measured by a clock that nobody sets and only while this process listens: neither a clock that jumps,
    nor a dispatcher that stood still, may end what goes on.

    Args:
        seconds: how long an attempt counts as alive without a word from it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._heard: dict[tuple[str, int], float] = {}
        self._looked_at = 0.0

    def begin(self, key: tuple[str, int], now: float, grace: float = 0.0) -> None:
        """Take note that an attempt was given to an actor, which has `grace` seconds more for its first word."""
        with self._lock:
            self._heard[key] = now + grace

    def hear(self, key: tuple[str, int], now: float) -> None:
        """Take note of a word from an attempt; who has spoken once needs no grace any more."""
        with self._lock:
            if key in self._heard:
                self._heard[key] = now

    def look(self, going: Container[tuple[str, int]], now: float) -> None:
        """Forget all but the attempts that go on, and do not count the time in which this process heard nobody."""
        with self._lock:
            deaf, self._looked_at = now - self._looked_at, now
            kept = {key: heard for key, heard in self._heard.items() if key in going}
            if deaf > ATTENTIVE:
                kept = {key: max(heard, min(now, heard + deaf)) for key, heard in kept.items()}
            self._heard = kept

    def __contains__(self, key: object) -> bool:
        """Say whether an attempt was given to an actor."""
        return key in self._heard

    def silent(self, machines: Mapping[tuple[str, int], str], now: float) -> set[str]:
        """Return the machines of which nothing was heard for half a lease, of those that were heard of at all.

        `machines` has that of each attempt. An attempt is heard of three times in a lease.
        """
        newest: dict[str, float] = {}
        with self._lock:
            for key, machine in machines.items():
                # One that was only just given to its actor says nothing of its machine yet.
                if (heard := self._heard.get(key, math.inf)) <= now:
                    newest[machine] = max(newest.get(machine, heard), heard)
        return {machine for machine, heard in newest.items() if now - heard > self._seconds / 2}

    def is_out(self, key: tuple[str, int], now: float) -> bool:
        """Say whether nothing was heard of an attempt for a whole lease."""
        return now - self._heard.get(key, now) > self._seconds
