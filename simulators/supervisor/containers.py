"""Commands that run in containers, each in one of its own."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from simulators.supervisor.cgroups import CgroupMeter
from simulators.supervisor.control import Control
from simulators.supervisor.ends import End, LaunchError
from simulators.supervisor.engine import ENGINE_SECONDS, Engine
from simulators.supervisor.events import Events
from simulators.supervisor.native import Commands
from simulators.supervisor.output import Output
from simulators.supervisor.processes import read_small
from simulators.supervisor.sweep import Sweep

_INSPECT_SECONDS = 0.2
_MONITOR_SECONDS = 5.0
# Of the engine's call itself, though a command may use them too.
_ENGINE_CODES = frozenset({125, 126, 127})
# Signals that a container's init reports as 128 and the number; other codes above 128 are the command's own.
_FATAL = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 24, 25, 31})


class ContainerCommands(Commands):
    """Commands whose process is the engine's call, and whose own processes are in a control group elsewhere."""

    meter: CgroupMeter

    def __init__(self, plan: dict[str, Any], control: Control, events: Events, sweep: Sweep, output: Output) -> None:
        super().__init__(plan, events, sweep)
        engine = plan["engine"]
        # A container's monitor leaves files of its own where it was started: not among the simulation's.
        self.folder = control.folder
        self.meter = CgroupMeter()
        self._engine = Engine(engine["argv"], engine["environment"], events)
        self._is_asked: bool = engine["is_asked"]
        self._control = control
        self._output = output
        self._next_inspect = 0.0

    def begin(self, step: dict[str, Any]) -> list[str]:
        """Return the argument vector of the engine's call, and forget the container before."""
        self.meter.forget(self._events)
        words = super().begin(step)
        if self._is_asked:
            return words
        # A way to the control folder in plain ASCII: the container's monitor does not take other paths.
        return [*words[:2], "--pidfile", f"/proc/{os.getpid()}/cwd/{_pid_file(step)}", *words[2:]]

    @property
    def patience(self) -> float:
        """Seconds until the next look; a container may use up its memory milliseconds after it starts."""
        return super().patience if self.meter.is_following else super().patience / 10

    def look(self, step: dict[str, Any]) -> None:
        """Learn the control group of a container as soon as it runs."""
        if self.meter.is_following:
            return
        container = ""
        try:
            if not self._is_asked:
                pid = int(read_small(self._control.path(_pid_file(step))))
            elif (now := time.monotonic()) >= self._next_inspect:
                self._next_inspect = now + _INSPECT_SECONDS
                said = self._engine.inspect(step["container"], "{{.State.Pid}} {{.Id}}") or "0 "
                pid, container = int(said.split(" ")[0]), said.split(" ")[1]
            else:
                return
        except (OSError, ValueError):
            return  # it is not there yet
        if pid and self.meter.follow(pid, container):
            self.meter.watch(self._events)
            self.meter.look(0, now=time.monotonic())

    def end(self, step: dict[str, Any], pid: int, grace: float) -> None:
        """End the container, and the call that makes it."""
        if grace and self._engine.terminate(step["container"]):
            self._events.wait_for(pid, grace)
        # The container may only just be coming to life: remove it until the call that makes it has ended.
        deadline = time.monotonic() + ENGINE_SECONDS
        while pid not in self._events.ended and time.monotonic() < deadline:
            self._engine.remove(step["container"])
            self._events.wait_for(pid, 0.3)

    def conclude(self, step: dict[str, Any], status: int | None, *, was_ended: bool) -> End | LaunchError | None:
        """Leave nothing of a container that has ended; return what there is to say of its end."""
        self._output.drain()
        code, number = (None, None) if status is None else self.exit_of(status)
        verdict = None if status == 0 or was_ended else self._judge(step, code, number)
        if was_ended or self._is_asked or code is None or code in _ENGINE_CODES:
            self._engine.remove(step["container"])
        # A monitor that the engine's call leaves behind ends by itself when its container has.
        deadline = time.monotonic() + _MONITOR_SECONDS
        while time.monotonic() < deadline and self._sweep.living():
            self._events.pump(0.005)
        self._sweep.clear_descendants(0.0)
        return verdict

    def exit_of(self, status: int) -> tuple[int | None, int | None]:
        """Return the exit code of the command in the container, or its signal."""
        code, number = super().exit_of(status)
        if code is not None and code - 128 in _FATAL:
            return None, code - 128
        return code, number

    @property
    def peak(self) -> int:
        """Bytes of memory that the containers used at most."""
        return self.meter.peak

    def _judge(self, step: dict[str, Any], code: int | None, number: int | None) -> End | LaunchError | None:
        """Return why a container's command failed, where it was not by itself."""
        began, said, rang = True, "", self.meter.may_be_out_of_memory
        if self._is_asked:
            found = self._engine.inspect(
                step["container"], "{{.State.OOMKilled}}|{{.State.StartedAt}}|{{.State.Error}}"
            )
            oom, _, rest = (found or "").partition("|")
            started, _, said = rest.partition("|")
            began = found is not None and not started.startswith("0001-")
            rang = oom == "true"
        elif code in _ENGINE_CODES:
            began = os.path.exists(self._control.path(_pid_file(step)))
        # The removal of a version 1 group rings as well, also for docker, so the bell counts with the signal only.
        if self.meter.is_out_of_memory or (rang and number == signal.SIGKILL):
            return End("out-of-memory", "The kernel killed a process: the container's memory was used up.")
        tail = self._output.last_words()
        # An init process stands before the command in the container, and complains in these words.
        if not began or (": failed to exec pid1: " in tail or "[FATAL tini (" in tail):
            said = said or tail
            return LaunchError(f"{step['program']!r} could not be started in the container: {said}"[:2000])
        return None


def _pid_file(step: dict[str, Any]) -> str:
    return f"{step['container']}.pid"
