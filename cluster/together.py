"""Lets threads that ask for one each of the same thing, at about the same time, ask once for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

QUIET_SECONDS = 1.0
"""So long nobody more must have come before it is asked."""


@dataclass
class _Round:
    """Those that ask together."""

    count: int = 0
    came: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Together:
    """Gathers those that ask; the first of each round asks for all of them, and each is told what came of it.

    Args:
        quiet: seconds without another one after which it is asked.
    """

    def __init__(self, quiet: float = QUIET_SECONDS) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._rounds: dict[str, _Round] = {}

    def ask(self, what: str, count: int, act: Callable[[int], None]) -> None:
        """Return once somebody has called `act` with the sum of all counts that came together.

        Raises:
            Exception: what `act` raised, in each that came.
        """
        with self._lock:
            leads = what not in self._rounds
            own = self._rounds.setdefault(what, _Round())
            own.count += count
            own.came.set()
        if not leads:
            # Who leads waits for nobody but the provider, whose clients have limits of their own.
            own.done.wait()
            if own.error is not None:
                raise own.error
            return
        while own.came.is_set():
            own.came.clear()
            own.came.wait(self._quiet)
        with self._lock:
            # Who comes from now on is of the next round. One that came just before is counted.
            del self._rounds[what]
            count = own.count
        try:
            act(count)
        except Exception as error:
            own.error = error
            raise
        finally:
            own.done.set()
