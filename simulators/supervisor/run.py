"""The life of a run: one command after the other, and one certain end."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from simulators.supervisor.containers import ContainerCommands
from simulators.supervisor.control import TEMP, Control
from simulators.supervisor.disk import DiskMeter
from simulators.supervisor.ends import End, LaunchError
from simulators.supervisor.events import Events
from simulators.supervisor.limits import Limits
from simulators.supervisor.native import Commands, was_killed
from simulators.supervisor.output import Output
from simulators.supervisor.programs import spawn
from simulators.supervisor.samples import Samples
from simulators.supervisor.stall import Stall
from simulators.supervisor.sweep import Sweep

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Run:
    """Carries out one plan."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._plan = control.read_plan()
        self.name: str = self._plan["name"]
        self._events = Events()
        self._output = Output(control, self._events, self._plan["log_limit"])
        self._sweep = Sweep(self._events, self._plan["mark"], self._plan["name"])
        self._commands = self._make_commands()
        self._disk = DiskMeter([self._plan["folder"], control.path(TEMP)], self._output.size)
        self._limits = Limits(self._plan, control, self._events, self._disk)
        self._samples = Samples(control, self._commands.meter, self._disk)
        self._stall = Stall(self._plan["stall_seconds"], self._output, self._disk)
        self._step: int | None = None
        self._status: int | None = None
        """How the newest command ended, as wait(2) tells it."""
        self._launched_at: float | None = None

    def _make_commands(self) -> Commands:
        if self._plan["engine"] is None:
            return Commands(self._plan, self._events, self._sweep)
        return ContainerCommands(self._plan, self._control, self._events, self._sweep, self._output)

    def run(self) -> bool:
        """Carry the plan out and write its end; says whether it was a native one that ended by itself, leaving nothing.

        Nothing is done in the control folder any more when this returns.
        """
        self._events.listen()
        self._control.make_temp()
        why, message, evidence = "exit", None, dict[str, int]()
        try:
            self._lay_ballast()
            self._limits.check_room()
            for index, step in enumerate(self._plan["steps"]):
                self._step = index
                self._limits.check()
                self._run_step(step)
                if self._status != 0:
                    break
        except End as end:
            why, message, evidence = end.why, end.message, end.evidence
        except LaunchError as error:
            why, message = "launch-error", str(error)
            self._status = None
        finally:
            clean = self._sweep.clear(grace=0.0)
        if why == "exit" and self._status != 0 and message is None:
            try:
                self._explain_failure()
            except End as end:
                why, message, evidence = end.why, end.message, end.evidence
        self._finish(why, message, evidence, clean=clean)
        self._events.close()
        return why == "exit" and clean and self._plan["engine"] is None

    def _run_step(self, step: dict[str, Any]) -> None:
        self._status = None
        pid = self._start(step)
        self._limits.start_clock()
        self._launched_at = self._launched_at or time.time()
        self._stall.begin()
        self._samples.begin()
        ended: End | None = None
        try:
            self._watch(step, pid)
        except End as end:
            ended = end
            self._commands.end(step, pid, end.grace)
        self._status = self._events.ended.get(pid)
        verdict = self._commands.conclude(step, self._status, was_ended=ended is not None)
        self._output.drain()
        if (reason := ended or verdict) is not None:
            raise reason

    def _watch(self, step: dict[str, Any], pid: int) -> None:
        """Return when the command has ended; raises End when it must."""
        while pid not in self._events.ended:
            self._events.pump(self._commands.patience)
            if pid not in self._events.ended:
                self._commands.look(step)
            self._limits.check(self._commands.meter)
            self._check_stall()
            self._samples.take_when_due()

    def _check_stall(self) -> None:
        """Say of a stall that it is there, or raise End where it is to be the end."""
        if not self._stall.has_begun():
            return
        if self._plan["end_stalled"]:
            message = f"The commands gave no output for {self._plan['stall_seconds']:g} s."
            raise End("stall-limit", message, grace=self._plan["grace_seconds"])
        try:
            self._control.write_state({"phase": "running", "stalls": self._stall.count})
        except OSError:
            pass  # the disk is full, which the next look tells

    def _start(self, step: dict[str, Any]) -> int:
        """Start a command with its streams; raises LaunchError."""
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if step["stdin"] is not None:
            os.close(stdin)
            stdin = os.memfd_create("stdin", os.MFD_CLOEXEC)
            with open(os.dup(stdin), "wb") as file:
                file.write(step["stdin"].encode(errors="surrogatepass"))
            os.lseek(stdin, 0, os.SEEK_SET)
        streams = (stdin, *self._output.begin())
        try:
            return spawn(self._commands.begin(step), step["environment"], self._commands.folder, streams)
        finally:
            for stream in streams:
                os.close(stream)

    def _lay_ballast(self) -> None:
        try:
            self._control.lay_ballast()
        except OSError as error:
            self._control.drop_ballast()
            if error.errno in _FULL:
                raise End("disk-full", "The machine's disk is full.") from error

    def _explain_failure(self) -> None:
        """Raise End where a command failed not by itself, but for lack of memory or disk."""
        if was_killed(self._exit()) and self._commands.peak >= 0.95 * self._plan["memory"]:
            raise End("out-of-memory")
        self._limits.explain_by_disk()

    def _finish(self, why: str, message: str | None, evidence: dict[str, int], *, clean: bool) -> None:
        meter = self._commands.meter
        meter.look(self._plan["memory"], now=time.monotonic(), force=True)
        self._disk.finish(0.2)
        self._control.remove_temp()
        self._samples.take()
        self._output.close()
        exit_code, number = self._exit()
        end = {
            "why": why,
            "message": message,
            "evidence": evidence,
            "exit_code": exit_code,
            "signal": number,
            "command": self._step,
            "peak_memory": self._commands.peak,
            "cpu_seconds": round(meter.cpu_seconds, 3),
            "started_at": self._launched_at,
            "ended_at": time.time(),
        }
        while True:
            try:
                self._control.write_end({"phase": "ended", "clean": clean, "exit": end})
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                time.sleep(0.2)  # somebody else has filled the disk: the end waits for room
            else:
                return

    def _exit(self) -> tuple[int | None, int | None]:
        """Return exit code and signal of the newest command."""
        return (None, None) if self._status is None else self._commands.exit_of(self._status)
