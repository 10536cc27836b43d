"""CPU time and memory of the processes below the supervisor."""

from __future__ import annotations

import os
import resource
import time

from simulators.supervisor.priority import Priority
from simulators.supervisor.processes import Process, crowd, descendants, family, read_processes, read_small

_CLOCK = os.sysconf("SC_CLK_TCK")
_PAUSE = 0.1
_SHARE = 0.05


class Meter:
    """What a run uses, as last measured."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.memory = 0
        """Bytes."""
        self.peak = 0
        """Bytes."""
        self.processes = 0
        self.members: dict[int, Process] = {}

    def look(self, limit: int, *, now: float, force: bool = False) -> None:
        """Measure."""


class TreeMeter(Meter):
    """CPU time and memory of the supervisor's descendants."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._crowd = 0
        self._priority = Priority()
        self._next = 0.0
        self._next_shared = 0.0
        self._earlier = _children_seconds()
        """CPU time of the runs before."""

    def look(self, limit: int, *, now: float, force: bool = False) -> None:
        """Measure, unless measuring is costly here and was done a moment ago.

        More than `most` processes are only counted.
        """
        # Many processes take long to measure, and are measured rarely; but when the machine fills up, we look at once.
        threads = crowd()
        is_filling = threads - self._crowd >= self._most // 8
        if now < self._next and not is_filling and not force:
            return
        self._crowd = threads
        if is_filling:
            self._priority.lift()
        members = family(os.getpid(), self._most)
        self.members = descendants({os.getpid()}, read_processes()) if members is None else members
        # A living process counts its own time and that of the children it has waited for; the dead ones are in ours.
        ticks = sum(process.cpu for process in self.members.values())
        self.cpu_seconds = max(self.cpu_seconds, _children_seconds() - self._earlier + ticks / _CLOCK)
        alive = {pid: process for pid, process in self.members.items() if process.alive}
        self.processes = len(alive)
        if self.processes > self._most:
            return
        if self.processes <= self._most // 2:
            self._priority.drop()
        resident = sum(process.resident for process in alive.values())
        end = time.monotonic()
        self._next = end + max(_PAUSE, (end - now) / _SHARE)
        if len(alive) > 1 and (force or resident > min(self.peak, limit)):
            # Pages that processes share count in each of them: look closer, which takes the kernel longer.
            if end >= self._next_shared:
                resident = sum(proportional(pid, process) for pid, process in alive.items())
                after = time.monotonic()
                self._next_shared = after + (after - end) / _SHARE
            else:
                resident = min(resident, max(self.memory, self.peak))
        if alive:
            self.memory = resident
            self.peak = max(self.peak, resident)


def _children_seconds() -> float:
    """Return the CPU time of all children that have ended."""
    done = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.ru_utime + done.ru_stime


def proportional(pid: int, process: Process) -> int:
    """Return the bytes of a process, shared pages by its share of them; all resident ones where that is unknown."""
    try:
        for line in read_small(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has just ended, or the kernel does not tell us
    return process.resident
