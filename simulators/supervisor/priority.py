"""Getting the processor while a storm of forks wants all of it, and being spared when memory runs out.

Without the right to the first it takes longer.
"""

from __future__ import annotations

import os

from simulators.supervisor.processes import read_small

_MOST = -20


class Priority:
    """The supervisor's own priority: as it was started, or before all others."""

    def __init__(self) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._is_raised = False

    def lift(self) -> None:
        """Go before all others as far as we may."""
        if not self._is_raised:
            self._is_raised = True
            _set(_MOST)

    def drop(self) -> None:
        """Go in line again."""
        if self._is_raised:
            self._is_raised = False
            _set(self._usual)


def oom_score() -> int:
    """Return how soon the kernel takes this process when the machine runs out of memory; 0, the usual, if unknown."""
    try:
        return int(read_small("/proc/self/oom_score_adj"))
    except (OSError, ValueError):
        return 0


def set_oom_score(score: int) -> None:
    """Say how soon the kernel takes this process when the machine runs out of memory: 1000 first, 0 is usual."""
    try:
        _write("/proc/self/oom_score_adj", score)
    except OSError:
        pass  # who started us may not be spared


def _set(nice: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        # Where the kernel groups processes by session, it compares the groups first.
        _write("/proc/self/autogroup", nice)
    except OSError:
        pass  # only some users may, and not every kernel groups


def _write(path: str, value: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, str(value).encode())
    finally:
        os.close(handle)
