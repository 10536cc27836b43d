"""A run that is carried by a supervisor process: started, found again, watched, ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from simulators import supervisor
from simulators.errors import SupervisorLost
from simulators.runtimes.launcher import LAUNCHER
from simulators.runtimes.runtime import SupervisorPlan
from simyard.event import LogStream, Sample

Why = Literal["exit", "stopped", "run-limit", "stall-limit", "out-of-memory", "disk-full", "orphaned", "launch-error"]
"""Why a run ended: by itself, by us, or because it could not begin."""

_ENGINE_SECONDS = 30.0
_REAP_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a run ended."""

    why: Why
    exit_code: int | None
    """Of the last command that ran; None where it was ended by a signal or never began."""
    signal: int | None
    message: str | None
    """A sentence of evidence, where there is more to say than `why`."""
    command: int | None
    """Which command, counted from 0, was the last to run."""
    peak_memory: int
    """Bytes."""
    cpu_seconds: float
    started_at: datetime | None
    """When the first command started; None where none did."""
    ended_at: datetime
    evidence: Mapping[str, int] = field(default_factory=dict)
    """What was measured, where there is more than the other fields hold."""


class Running:
    """One run, known by its control folder; any process of this machine's user may hold one."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self._last_state: dict[str, Any] = {}
        """The state that stays, once the run has ended."""
        self._told: int | None = None
        """The end of a pipe whose other end is closed when the run is over; only who started it has that."""
        self._is_over = False
        """Its supervisor was seen to end, so that its number may be another's by now, or to be done with this run."""

    @classmethod
    def start(cls, plan: SupervisorPlan, control: Path) -> Running:
        """Start a supervisor that outlives this process, and return the run.

        Raises:
            SupervisorLost: it did not come up; the text says why.
        """
        control.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(control / supervisor.PLAN, "w", encoding="utf-8", opener=_private) as plan_file:
            plan_file.write(plan.to_json())
        running = cls(control)
        running._told = LAUNCHER.start(control)
        if running._told is None:
            raise SupervisorLost(f"The supervisor could not be started: {running._complaints()}")
        return running

    @classmethod
    def attach(cls, control: Path) -> Running:
        """Return a run that another process started, also when it has ended or never began."""
        return cls(control)

    def poll(self) -> Exit | None:
        """Return how the run ended, or None while it goes on.

        Raises:
            SupervisorLost: the supervisor is gone and left no end, or the machine was started anew since.
        """
        is_alive = not self._last_state and self._living_pid() is not None
        state = self._state()
        if state.get("phase") == "ended":
            # One of the release before does not say in which boot that was.
            if state.get("boot", supervisor.boot()) != supervisor.boot():
                raise SupervisorLost(
                    "The machine was started anew since its commands ended, and may have lost outputs."
                )
            return _exit_of(state["exit"])
        if not is_alive:
            raise SupervisorLost(self._complaints() or None)
        return None

    def wait(self, timeout: float) -> Exit | None:
        """Return how the run ended as soon as it has, or None after `timeout` seconds.

        Raises:
            SupervisorLost: the supervisor is gone and left no end.
        """
        self._wait_for_supervisor(timeout)
        return self.poll()

    def stop(self) -> None:
        """Ask for the end of the run, in whatever phase it is; returns at once."""
        (self.control / supervisor.STOP).touch()

    def beat(self) -> None:
        """Tell the supervisor that somebody still watches the run."""
        (self.control / supervisor.HEARTBEAT).touch(mode=0o600)

    def was_watched(self, seconds: float) -> bool:
        """Say whether somebody watched the run within the last seconds, as far as the machine's clock was not set."""
        # Who starts a run watches it, and beats the heart only once it has gone on for a moment.
        for name in (supervisor.HEARTBEAT, supervisor.PLAN):
            with suppress(FileNotFoundError):
                return time.time() - (self.control / name).stat().st_mtime < seconds
        return False

    def log(self, stream: LogStream) -> Path:
        """Return the file that holds what the commands printed so far."""
        return self.control / (supervisor.STDOUT if stream is LogStream.STDOUT else supervisor.STDERR)

    def stalls(self) -> int:
        """Return how often the run has given no output for as long as its plan says."""
        return int(self._state().get("stalls", 0))

    def samples(self) -> tuple[Sample, ...]:
        """Return what the run used so far, oldest first."""
        found = []
        with suppress(FileNotFoundError):
            for line in (self.control / supervisor.SAMPLES).read_bytes().splitlines():
                with suppress(ValueError):  # the last line may be half written
                    found.append(Sample.model_validate_json(line))
        return tuple(found)

    def supervisor_pid(self) -> int | None:
        """Return the supervisor's process id while it lives and carries this run; afterwards it may carry another."""
        return None if self._state().get("phase") == "ended" else self._living_pid()

    def _living_pid(self) -> int | None:
        if self._is_over:
            return None
        try:
            pid, start = map(int, (self.control / supervisor.PID).read_text().split())
            # Looking in /proc for a process that has ended lately costs milliseconds.
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        except PermissionError:
            pass  # another user's process has the number by now, which its start tells
        process = supervisor.read_process(pid)
        return pid if process is not None and process.alive and process.start == start else None

    def reap(self) -> bool:
        """End every process and container of the run, also where the supervisor was killed; says whether none is left.

        A run that has ended by itself is not disturbed. Safe to call at any time, by any process, more than once.
        """
        if self.supervisor_pid() is not None:
            self.stop()
            self._wait_for_supervisor(float(self._plan().get("grace_seconds", 0)) + _REAP_SECONDS)
        if (pid := self.supervisor_pid()) is not None:
            os.kill(pid, signal.SIGKILL)
            self._wait_for_supervisor(1.0)
        clean = bool(self._state().get("clean"))
        if not clean:
            plan = self._plan()
            # Twice: a call that was about to make a container is ended between.
            self._remove_containers(plan)
            clean = self._kill_processes(plan) and self._remove_containers(plan)
        supervisor.remove_tree(str(self.control / supervisor.TEMP))
        self._close()
        return clean

    def _wait_for_supervisor(self, timeout: float) -> None:
        """Wait until the supervisor is done with this run, at most `timeout` seconds."""
        # One who looks for a process in /proc while the kernel takes it out there may turn in a circle for a second:
        # once it was seen to end it is not looked for again.
        if self._told is not None:
            self._is_over = _is_closed(self._told, timeout)
        elif (pid := self.supervisor_pid()) is not None:
            self._is_over = _wait_for(pid, timeout)
        if self._is_over:
            self._close()

    def _close(self) -> None:
        if self._told is not None:
            os.close(self._told)
            self._told = None

    def _kill_processes(self, plan: dict[str, Any]) -> bool:
        deadline = time.monotonic() + _REAP_SECONDS
        seen = self._members()
        while time.monotonic() < deadline:
            everyone = supervisor.read_processes()
            # A process may have cleaned its environment: those that the supervisor had seen, and theirs, count too.
            known = {pid: p for pid, p in everyone.items() if seen.get(pid) == p.start}
            known |= supervisor.marked(plan["mark"], plan["name"], everyone) if plan else {}
            known |= supervisor.descendants(set(known), everyone)
            alive = {pid: p for pid, p in known.items() if p.alive and pid != os.getpid()}
            if not alive:
                return True
            seen |= {pid: p.start for pid, p in alive.items()}
            supervisor.kill_all(alive, signal.SIGKILL)
            time.sleep(0.005)
        return False

    def _remove_containers(self, plan: dict[str, Any]) -> bool:
        engine = plan.get("engine")
        if engine is None:
            return True

        def call(*arguments: str) -> list[str]:
            done = subprocess.run(
                [*engine["argv"], *arguments],
                env=engine["environment"],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_ENGINE_SECONDS,
                check=False,
            )
            return done.stdout.decode().split()

        deadline = time.monotonic() + 2 * _REAP_SECONDS
        while time.monotonic() < deadline:
            try:
                left = call("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={engine['label']}")
                if not left:
                    return True
                call("rm", "--force", *left)
            except (OSError, subprocess.TimeoutExpired):
                return False
        return False

    def _members(self) -> dict[int, int]:
        try:
            lines = (self.control / supervisor.MEMBERS).read_text().splitlines()
            return {int(pid): int(start) for pid, start in (line.split() for line in lines)}
        except (FileNotFoundError, ValueError):
            return {}

    def _plan(self) -> dict[str, Any]:
        return self._read_json(supervisor.PLAN)

    def _state(self) -> dict[str, Any]:
        if self._last_state:
            return self._last_state
        state = self._read_json(supervisor.STATE)
        if state.get("phase") == "ended":
            self._last_state = state
        return state

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            read: dict[str, Any] = json.loads((self.control / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return read

    def _complaints(self) -> str:
        try:
            return (self.control / supervisor.COMPLAINTS).read_bytes()[-2000:].decode(errors="replace").strip()
        except FileNotFoundError:
            return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _exit_of(state: dict[str, Any]) -> Exit:
    started = state["started_at"]
    return Exit(
        why=state["why"],
        exit_code=state["exit_code"],
        signal=state["signal"],
        message=state["message"],
        command=state["command"],
        peak_memory=state["peak_memory"],
        cpu_seconds=state["cpu_seconds"],
        started_at=None if started is None else datetime.fromtimestamp(started, UTC),
        ended_at=datetime.fromtimestamp(state["ended_at"], UTC),
        evidence=state["evidence"],
    )


def _wait_for(pid: int, timeout: float) -> bool:
    """Wait at most `timeout` seconds for the end of a process, which need not be our child; says whether it came."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return _is_closed(handle, timeout)
    finally:
        os.close(handle)


def _is_closed(handle: int, timeout: float) -> bool:
    """Wait at most `timeout` seconds until a pipe is closed at its other end, or a process has ended."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
