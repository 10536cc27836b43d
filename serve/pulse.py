"""Whether a process still goes on, by a file that it touches again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


class Pulse:
    """Watches a file that somebody touches; `seconds` may pass without that, by a clock that nobody sets.

    Only that the file's time changes counts: what it says is the time of day, which somebody may set.
    """

    def __init__(self, file: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._file, self._seconds, self._now = file, seconds, now
        self._seen: int | None = None
        self._changed = now()

    def is_silent(self) -> bool:
        """Say whether the file was not touched for too long; once it was said, as much time may pass again."""
        try:
            touched = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            touched = None
        now = self._now()
        if touched == self._seen and now - self._changed < self._seconds:
            return False
        is_silent = touched == self._seen
        self._seen, self._changed = touched, now
        return is_silent
