"""When a run gives no output."""

from __future__ import annotations

import time

from simulators.supervisor.disk import DiskMeter
from simulators.supervisor.output import Output


class Stall:
    """Tells when nothing was printed and nothing in the folder was changed for some seconds; None never tells."""

    def __init__(self, seconds: float | None, output: Output, disk: DiskMeter) -> None:
        self._seconds = seconds
        self._output = output
        self._disk = disk
        self._begun = 0.0
        self._told_at: float | None = None
        self.count = 0
        """How many stalls there were."""

    def begin(self) -> None:
        """Take note that a command starts, which counts as output."""
        self._begun = time.monotonic()

    def has_begun(self) -> bool:
        """Say once for each stall that it is there; output ends it."""
        if self._seconds is None:
            return False
        last = max(self._begun, self._output.spoke_at, self._disk.changed_at)
        # A walk over the folder knows nothing of what is written after it began.
        if self._disk.looked_at - last < self._seconds or last == self._told_at:
            return False
        self._told_at = last
        self.count += 1
        return True
