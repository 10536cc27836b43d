"""What a run used over time."""

from __future__ import annotations

import time

from simulators.supervisor.control import Control
from simulators.supervisor.disk import DiskMeter
from simulators.supervisor.usage import Meter

_SOON = 0.1
_FIRST_PAUSE = 1.0
_LAST_PAUSE = 10.0
_GROWTH = 1.2


class Samples:
    """Writes down what is used; the steps between samples grow from 1 to 10 seconds."""

    def __init__(self, control: Control, meter: Meter, disk: DiskMeter) -> None:
        self._control = control
        self._meter = meter
        self._disk = disk
        self._next = 0.0
        self._pause = _FIRST_PAUSE
        self._members: set[int] = set()

    def begin(self) -> None:
        """Take note that a command starts: what it uses is worth a line only once it has run for a moment."""
        self._next = time.monotonic() + _SOON

    def take_when_due(self) -> None:
        """Write a sample when it is time for one."""
        if time.monotonic() >= self._next:
            self.take()

    def take(self) -> None:
        """Write what is used now, and which processes there are."""
        self._next = time.monotonic() + self._pause
        self._pause = min(_LAST_PAUSE, self._pause * _GROWTH)
        sample = {
            "at": time.time(),
            "cpu_seconds": round(self._meter.cpu_seconds, 3),
            "memory": self._meter.memory,
            "disk": self._disk.used,
        }
        try:
            self._control.add_sample(sample)
            members = self._meter.members
            # Of none there is nothing to say: who is named and has ended is known by its start.
            if members and members.keys() != self._members:
                self._control.write_members({pid: process.start for pid, process in members.items()})
                self._members = set(members)
        except OSError:
            pass  # the disk is full, which the next look tells
