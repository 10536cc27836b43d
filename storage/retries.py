"""Trying again what the storage failed to do: a bounded number of times, later and later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from storage.errors import Stopped, StorageUnavailable

T = TypeVar("T")
_STEP = 0.2


def never() -> bool:
    """Return False: nobody will stop the work."""
    return False


def check_stopped(stopped: Callable[[], bool]) -> None:
    """Raise `Stopped` when the work was told to stop."""
    if stopped():
        raise Stopped


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often to try, and how long to wait in between: a random part of a span that doubles each time."""

    tries: int = 6
    first: float = 0.5
    """Seconds."""
    longest: float = 20.0
    """Seconds."""
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    """A number between 0 and 1."""

    def run(self, action: Callable[[], T], stopped: Callable[[], bool] = never) -> T:
        """Return what the action returns; it runs again from its beginning when it raises `StorageUnavailable`.

        Raises:
            StorageUnavailable: the last try failed too.
            Stopped: the work was told to stop while it waited.
        """
        for number in range(self.tries - 1):
            check_stopped(stopped)
            try:
                return action()
            except StorageUnavailable:
                self._wait(min(self.longest, self.first * 2**number) * (0.5 + 0.5 * self.chance()), stopped)
        check_stopped(stopped)
        return action()

    def _wait(self, seconds: float, stopped: Callable[[], bool]) -> None:
        while seconds > 0:
            check_stopped(stopped)
            self.sleep(min(_STEP, seconds))
            seconds -= _STEP
