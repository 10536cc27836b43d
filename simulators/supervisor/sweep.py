"""Ending all processes of a run, also those that tried to get away."""

from __future__ import annotations

import os
import signal
import time

from simulators.supervisor.events import TICK, Events
from simulators.supervisor.processes import Process, descendants, family, kill_all, marked, read_processes

_SWEEP_SECONDS = 30.0
_MANY = 100
_DEATH_SECONDS = 0.05


class Sweep:
    """Knows a run's processes by descent, and by the mark in their environment."""

    def __init__(self, events: Events, mark: str, name: str) -> None:
        self._events = events
        self._mark = mark
        self._name = name

    def living(self) -> dict[int, Process]:
        """Return the processes below the supervisor that live."""
        return {} if self._events.reap() else _alive(descendants({os.getpid()}, read_processes()))

    def clear_descendants(self, grace: float) -> None:
        """End all processes below the supervisor."""
        if not self._events.reap():
            self.clear(grace)

    def clear(self, grace: float) -> bool:
        """End all processes of the run; says whether none is left."""
        if self._events.reap():
            return True
        if not grace:
            self._strike()
        members = self.living()
        now = time.monotonic()
        if members and grace:
            kill_all(members, signal.SIGTERM)
            kill_all(members, signal.SIGCONT)  # a stopped process does not hear SIGTERM
            while time.monotonic() < now + grace and self.living():
                self._events.pump(TICK)
        deadline = time.monotonic() + _SWEEP_SECONDS
        # Mostly nobody is left, and then the machine's processes need not be looked through.
        while not self._events.reap():
            if time.monotonic() >= deadline:
                return False
            everyone = read_processes()
            members = _alive(descendants({os.getpid()}, everyone) | marked(self._mark, self._name, everyone))
            kill_all(members, signal.SIGKILL)
            _let_die(members)
            self._events.pump(0.005)
        return True

    def _strike(self) -> None:
        """End most of what lives before all is looked through, which takes long while a storm of forks goes on."""
        while len(members := _alive(family(os.getpid(), _MANY) or {})) > _MANY:
            kill_all(members, signal.SIGKILL)
            _let_die(members)
            self._events.reap()


def _let_die(members: dict[int, Process]) -> None:
    # Many processes need the processor to die, which looking at them again and again would take from them.
    if len(members) > _MANY:
        time.sleep(_DEATH_SECONDS)


def _alive(processes: dict[int, Process]) -> dict[int, Process]:
    return {pid: process for pid, process in processes.items() if process.alive}
