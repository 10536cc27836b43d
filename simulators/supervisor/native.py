"""Commands that are processes of this machine."""

from __future__ import annotations

import os
import signal
from typing import Any

from simulators.supervisor.ends import End, LaunchError
from simulators.supervisor.events import TICK, Events
from simulators.supervisor.sweep import Sweep
from simulators.supervisor.usage import Meter, TreeMeter

_LAST_GRACE = 1.0


class Commands:
    """How a command is begun, looked at, ended and judged; here, one that needs no more than its process."""

    meter: Meter

    def __init__(self, plan: dict[str, Any], events: Events, sweep: Sweep) -> None:
        self.meter = TreeMeter(plan["processes"])
        self.folder: str = plan["folder"]
        """Where the process that carries a command is started."""
        self._events = events
        self._sweep = sweep
        self._grace = min(_LAST_GRACE, plan["grace_seconds"])

    def begin(self, step: dict[str, Any]) -> list[str]:
        """Return the argument vector of the process that carries a command."""
        words: list[str] = step["argv"]
        return words

    @property
    def patience(self) -> float:
        """Seconds until the next look at the command."""
        return TICK

    def look(self, step: dict[str, Any]) -> None:
        """Find out what is still to be known of the command that runs."""

    def end(self, step: dict[str, Any], pid: int, grace: float) -> None:
        """End the command that runs, with its whole tree."""
        self._sweep.clear(grace)

    def conclude(self, step: dict[str, Any], status: int | None, *, was_ended: bool) -> End | LaunchError | None:
        """Leave nothing of a command that has ended; return what there is to say of its end."""
        self._sweep.clear_descendants(self._grace)
        return None

    def exit_of(self, status: int) -> tuple[int | None, int | None]:
        """Return the exit code or the signal that a status of wait(2) means."""
        if os.WIFSIGNALED(status):
            return None, os.WTERMSIG(status)
        return os.WEXITSTATUS(status), None

    @property
    def peak(self) -> int:
        """Bytes of memory that the commands used at most."""
        # The kernel's own figure of the largest process also covers the time between two looks.
        return max(self.meter.peak, self._events.largest_process)


def was_killed(ended: tuple[int | None, int | None]) -> bool:
    """Say whether a command was ended as the kernel does it that is out of memory."""
    return ended == (None, signal.SIGKILL)
