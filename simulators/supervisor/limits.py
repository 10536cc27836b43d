"""What a run is held to."""

from __future__ import annotations

import os
import time
from typing import Any

from simulators.supervisor.control import HEARTBEAT, Control
from simulators.supervisor.disk import DiskMeter, shortage
from simulators.supervisor.ends import End
from simulators.supervisor.events import TICK, Events
from simulators.supervisor.usage import Meter

_DISK_SHARE = 0.05


class Limits:
    """Says when a run must end: it was stopped, nobody watches it, or it took too much."""

    def __init__(self, plan: dict[str, Any], control: Control, events: Events, disk: DiskMeter) -> None:
        self._plan = plan
        self._control = control
        self._events = events
        self._disk = disk
        self._deadline: float | None = None
        self._next_look = 0.0
        self._beat = -1
        self._beaten = time.monotonic()
        self._next_beat = 0.0

    def start_clock(self) -> None:
        """Let the time that the commands may take begin now; only the first call counts."""
        self._disk.begin()
        if self._deadline is None and self._plan["run_seconds"] is not None:
            self._deadline = time.monotonic() + self._plan["run_seconds"]

    def check(self, meter: Meter | None = None) -> None:
        """Look, unless that was done a moment ago; a meter is there while a command runs.

        Raises:
            End: the run must end.
        """
        now = time.monotonic()
        if now < self._next_look and not self._events.is_stopping and meter is not None:
            return
        self._next_look = now + TICK
        self._check_wishes(now)
        self._disk.advance(TICK * _DISK_SHARE)
        self._check_disk()
        if meter is not None:
            self._check_usage(meter, now)

    def check_room(self) -> None:
        """See that there is room on the machine's disk before anything starts; raises End."""
        if (short := shortage(self._plan["folder"], self._plan["disk_reserve"])) is not None:
            raise End("disk-full", str(short), evidence=short.evidence)

    def explain_by_disk(self) -> None:
        """Raise End where a command may have failed for want of disk, whoever took it."""
        self._disk.finish(0.5)
        self._check_own_disk()
        grown = self._disk.growth()
        if (short := shortage(self._plan["folder"], self._plan["disk_reserve"] // 4, grown)) is not None:
            raise End("disk-full", str(short), evidence=short.evidence)

    def _check_disk(self) -> None:
        """End the run that has grown too large, or that grows while the machine's disk becomes full; no other."""
        self._check_own_disk()
        short = shortage(self._plan["folder"], self._plan["disk_reserve"], self._disk.growth())
        if short is not None and short.is_of_the_run:
            raise End("disk-full", str(short), evidence=short.evidence)

    def _check_own_disk(self) -> None:
        used, most = self._disk.used, self._plan["disk"]
        if used > most:
            message = f"The task's folder grew to {used} bytes; its limit is {most}."
            raise End("disk-full", message, evidence={"limit": most, "used": used})

    def _check_wishes(self, now: float) -> None:
        grace = self._plan["grace_seconds"]
        if self._events.is_stopping or self._control.is_stop_wanted():
            raise End("stopped", grace=grace)
        if self._deadline is not None and now >= self._deadline:
            raise End("run-limit", f"The commands ran longer than {self._plan['run_seconds']:g} s.", grace=grace)
        if now >= self._next_beat:
            self._next_beat = now + min(1.0, self._plan["orphan_seconds"] / 4)
            self._check_heart(now)

    def _check_heart(self, now: float) -> None:
        # Times of the file and of the clock are never compared: a changed clock must not end a run.
        try:
            beat = os.stat(self._control.path(HEARTBEAT)).st_mtime_ns
        except OSError:
            beat = self._beat
        if beat != self._beat:
            self._beat, self._beaten = beat, now
        elif now - self._beaten > self._plan["orphan_seconds"]:
            raise End("orphaned", "Nobody watched the run any more.", grace=self._plan["grace_seconds"])

    def _check_usage(self, meter: Meter, now: float) -> None:
        meter.look(self._plan["memory"], now=now)
        if meter.processes > self._plan["processes"]:
            raise End("exit", f"More than {self._plan['processes']} processes were started.")
        if meter.memory > self._plan["memory"]:
            raise End("out-of-memory", f"The processes used {meter.memory} bytes of memory.")
