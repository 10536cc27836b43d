"""Running a simulator's commands once over a folder of staged inputs, and looking at it meanwhile."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from simulators.errors import ImageError, Stopped, SupervisorLost
from simulators.outcome import Outcome
from simulators.runtimes import Box, Exit, Running, Runtime, SupervisorPlan
from simulators.scratch import ADOPTION_SECONDS, Claim, remove_tree
from simulators.span import Span
from simulators.spec import SimulatorSpec, VersionSpec
from simulators.supervisor.control import TEMP
from simyard.errors import NotFound
from simyard.event import LogStream, Sample
from simyard.files import check_relative
from simyard.reason import Reason, ReasonCode
from simyard.resources import Limits, Resources
from simyard.simulator import Command
from simyard.status import Status
from storage.errors import UnsafePath
from storage.folder import Folder
from storage.stamps import Stamps, take_stamps

ORPHAN_SECONDS = 30.0
"""How long a simulation goes on when the process that watches it is gone, and no other one may take it over."""
ADOPT_PATIENCE = 20.0
"""Seconds for which a process that takes a run over waits until the one before it has died."""
_BEAT = 1.0
_LISTED = 100_000
_LEAST_DISK = 256 * 1024
_TOLD_STALLS = 20
"""How many stalls of one run are told: one that stalls again and again must not fill the events of its task."""
_TAIL = 1000
_ENGINE_SECONDS = 30.0


class Execution:
    """One run of a simulator's commands, with everything that it left on this machine.

    `root` is a folder of its own, made here: `work` below it is the task's folder, `control` belongs to the supervisor.
    With `adopting` it is one that a process which has died left behind, with its run; raises NotAdoptable.
    `make_room` is called before the commands start and each second while they run: it gives them disk that is not
    theirs, where the machine has little left.
    """

    def __init__(
        self,
        *,
        box: str,
        root: Path,
        spec: SimulatorSpec,
        version: VersionSpec,
        runtime: Runtime,
        resources: Resources,
        limits: Limits,
        gpu_ids: tuple[str, ...] = (),
        adopting: bool = False,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._claim = Claim.adopt(root, gpu_ids, ADOPT_PATIENCE) if adopting else Claim.make(root)
        self.folder = self._claim.work
        self.control = self._claim.control
        self._box = box
        self._spec = spec
        self._version = version
        self._runtime = runtime
        self._resources = resources
        self._limits = limits
        self._gpu_ids = gpu_ids
        self._make_room = make_room
        self._stop = threading.Event()
        self._running: Running | None = None
        self._plan: SupervisorPlan | None = None
        self._orphan_seconds = ORPHAN_SECONDS
        self._lock = threading.Lock()
        self.is_removed = False
        """Whether its folder is gone, or going: true before the first file is."""

    @property
    def stop_requested(self) -> bool:
        """Say whether somebody asked to end this run."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the run in whatever phase it is; returns at once."""
        with self._lock:
            self._stop.set()
            running = self._running
        if running is not None:
            running.stop()

    def run(
        self,
        commands: tuple[Command, ...],
        started: Callable[[], None] = lambda: None,
        *,
        given_up: Callable[[], bool] = lambda: False,
        stalled: Callable[[int], None] | None = None,
        span: Span | None = None,
    ) -> Exit:
        """Make the runtime ready, run the commands to their end and return it.

        `span` has the machines of a task that runs on several. `started` is called once the commands run, `stalled`
        with a number that grows whenever they begin to stall.

        Raises:
            Stopped: stop() came before the commands started, or `given_up` became true before.
            ImageError: the environment or the image could not be made ready.
            SupervisorLost: nobody knows how the commands ended, or what was made ready for them was removed meanwhile.
        """
        prepared = self._runtime.prepare(self._spec, self._version, lambda: self._stop.is_set() or given_up())
        box = Box(
            name=self._box,
            folder=self.folder,
            control=self.control,
            commands=commands,
            resources=self._resources,
            limits=self._limits,
            gpu_ids=self._gpu_ids,
            orphan_seconds=self._orphan_seconds,
            span=span,
        )
        self._plan = plan = self._runtime.plan(prepared, box)
        self._make_room()
        with self._lock:
            if self._stop.is_set() or given_up():
                raise Stopped
            running = self._running = Running.start(plan, self.control)
        started()
        end = self._watch(running, stalled)
        if end.why == "launch-error" and not self._runtime.has(prepared):
            # Somebody tidied up, and the task is not to pay for it.
            raise SupervisorLost("The simulator's image or environment was removed from the machine.")
        return end

    @property
    def has_begun(self) -> bool:
        """Say whether the commands were told to start."""
        return self._running is not None

    @property
    def span_folder(self) -> Path:
        """The folder by which containers are told of the other machines of their task; it counts for the disk."""
        return self.control / TEMP / "span"

    def span(self, addresses: Mapping[str, str], hosts: Mapping[str, str]) -> Span:
        """Return the span over machines with these addresses, with its folder as containers read it."""
        span = Span(folder=self.span_folder, addresses=addresses, hosts=hosts)
        span.lay_out(self._resources)
        return span

    def inside(self, *words: str) -> tuple[list[str], dict[str, str]]:
        """Return the call by which a command runs in the container of the first of the commands, and its environment.

        Raises:
            ImageError: they run in no container.
        """
        plan = self._plan
        if plan is None or plan.engine is None or (container := plan.steps[0].container) is None:
            raise ImageError("It runs in no container.")
        return [*plan.engine.argv, "exec", container, *words], dict(plan.engine.environment)

    def is_open(self) -> bool:
        """Say whether the container of the first of the commands runs."""
        plan = self._plan
        if plan is None or plan.engine is None:
            return False
        asked = ["container", "inspect", "--format", "{{.State.Running}}", plan.steps[0].container or ""]
        try:
            done = subprocess.run(
                [*plan.engine.argv, *asked],
                env=dict(plan.engine.environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_ENGINE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.stdout.strip() == b"true"

    def allow_adoption(self) -> Stamps:
        """Let another process take the run over should this one die, and return what the task's folder holds now."""
        before = take_stamps(self.folder)
        self._claim.allow_adoption(before, self._gpu_ids)
        self._orphan_seconds = ADOPTION_SECONDS
        return before

    def forbid_adoption(self) -> None:
        """Leave nothing to take over should this process die: all that the run made is stored."""
        self._claim.forbid_adoption()

    @property
    def copies(self) -> Path:
        """A folder beside the task's folder, for copies of what is in it."""
        return self._claim.root / "copies"

    def empty(self) -> None:
        """Take everything out of the task's folder again; its commands have not begun."""
        for path in list(self.folder.iterdir()):
            remove_tree(path)

    def before(self) -> Stamps:
        """Return what the task's folder held before the commands of a run that is taken over; raises NotAdoptable."""
        return self._claim.before()

    def resume(self, started: Callable[[], None] = lambda: None, stalled: Callable[[int], None] | None = None) -> Exit:
        """Watch the commands that another process had started to their end and return it, also when that has come.

        `started` is called when the commands still run; `stalled` is as in `run`.

        Raises:
            SupervisorLost: nobody knows how they ended.
        """
        with self._lock:
            running = self._running = Running.attach(self.control)
            if self._stop.is_set():
                running.stop()
        if running.poll() is None:
            started()
        return self._watch(running, stalled)

    def _watch(self, running: Running, stalled: Callable[[int], None] | None) -> Exit:
        told = 0
        try:
            while (end := running.wait(_BEAT)) is None:
                running.beat()
                self._make_room()
                if stalled is not None and told < (count := running.stalls()) <= _TOLD_STALLS:
                    told = count
                    stalled(count)
        finally:
            running.reap()
        return end

    def read_log(self, stream: LogStream, offset: int, limit: int, wait: float) -> tuple[bytes, bool]:
        """Return up to `limit` bytes of what the commands printed, and whether nothing will follow them.

        Waits up to `wait` seconds for the first byte.
        """
        path = self.log(stream)
        deadline = time.monotonic() + wait
        while True:
            over = self._over()
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(limit)
            except FileNotFoundError:
                data = b""
            if data or over or time.monotonic() >= deadline:
                return data, over and len(data) < limit
            time.sleep(0.05)

    def _over(self) -> bool:
        try:
            return self._running is not None and self._running.poll() is not None
        except SupervisorLost:
            return True

    def log(self, stream: LogStream) -> Path:
        """Return the file that holds a log."""
        return self.control / f"{stream}.log"

    def log_tail(self, stream: LogStream) -> str:
        """Return the last that the commands printed: at most 1000 bytes, with nothing in them that is no text."""
        try:
            with self.log(stream).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                text = file.read(_TAIL).decode(errors="replace")
        except OSError:
            return ""
        return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text.replace("\r\n", "\n")).strip(
            "\n"
        )

    def list_files(self) -> list[tuple[str, int, int]]:
        """Return path, size in bytes and mtime in nanoseconds of each file in the task's folder now."""
        files: list[tuple[str, int, int]] = []
        for found in Folder(self.folder).walk():
            if found.stat is not None and stat.S_ISREG(found.stat.st_mode):
                shown = os.fsencode(found.path).decode(errors="replace")
                files.append((shown, found.stat.st_size, found.stat.st_mtime_ns))
            if len(files) >= _LISTED:
                break
        return files

    def read_file(self, path: str, offset: int, limit: int) -> bytes:
        """Return up to `limit` bytes of a file in the task's folder; links are not followed.

        Raises:
            NotFound: there is no such plain file.
        """
        try:
            handle = Folder(self.folder).open(check_relative(path))
        except OSError as error:
            raise NotFound(f"There is no file {path!r} in the task's folder now.", field="path") from error
        except (ValueError, UnsafePath) as error:
            raise NotFound(str(error), field="path") from None
        try:
            return os.pread(handle, limit, offset)
        finally:
            os.close(handle)

    def samples(self) -> list[Sample]:
        """Return what the simulation used so far, oldest first."""
        return list(self._running.samples()) if self._running else []

    @property
    def has_no_disk(self) -> bool:
        """Say whether the disk is so full that not even a supervisor can work."""
        system = os.statvfs(self.control)
        return system.f_bavail * system.f_frsize < _LEAST_DISK or (system.f_files > 0 and not system.f_favail)

    def remove(self) -> None:
        """Remove all that the run left on this machine."""
        self.is_removed = True
        self._claim.release()


def outcome_of(end: Exit, resources: Resources, limits: Limits) -> Outcome:
    """Return the outcome that an end of the commands means; nothing is stored yet.

    Raises:
        SupervisorLost: the simulation was ended because nobody watched it, or its supervisor died.
    """
    status, reason = _verdict(end, resources, limits)
    return Outcome(
        status=status,
        reason=reason,
        exit_code=end.exit_code,
        peak_memory=end.peak_memory,
        cpu_seconds=end.cpu_seconds,
    )


def _verdict(end: Exit, resources: Resources, limits: Limits) -> tuple[Status, Reason | None]:
    evidence: dict[str, str | int | float | bool | None] = {"peak_memory": end.peak_memory}
    match end.why:
        case "exit" if end.exit_code == 0:
            return Status.SUCCEEDED, None
        case "exit" if end.signal is not None:
            message = end.message or f"A command was ended by signal {end.signal}. Its last lines stand in the log."
            return Status.FAILED, Reason(code=ReasonCode.SIGNAL, message=message, evidence={"signal": end.signal})
        case "exit":
            message = f"A command ended with exit code {end.exit_code}. Its last lines stand in the log."
            return Status.FAILED, Reason(
                code=ReasonCode.EXIT_CODE, message=message, evidence={"exit_code": end.exit_code}
            )
        case "stopped":
            return Status.CANCELLED, Reason(code=ReasonCode.CANCELLED_BY_USER, message="It was cancelled.")
        case "run-limit":
            message = f"The commands ran longer than their limit of {limits.run:g} s. Raise --time-limit."
            return Status.TIMED_OUT, Reason(
                code=ReasonCode.TIME_LIMIT, message=message, evidence={"limit": "run", "seconds": limits.run}
            )
        case "stall-limit":
            message = f"The commands gave no output for {limits.stall:g} s. Raise --stall-limit, or let them print."
            return Status.TIMED_OUT, Reason(
                code=ReasonCode.TIME_LIMIT, message=message, evidence={"limit": "stall", "seconds": limits.stall}
            )
        case "out-of-memory":
            message = (
                f"The simulation needed more than its {resources.memory / 2**20:.0f} MiB of memory. Raise --memory."
            )
            return Status.FAILED, Reason(
                code=ReasonCode.OUT_OF_MEMORY, message=message, evidence=evidence | {"limit": resources.memory}
            )
        case "disk-full":
            message = end.message or "The simulation ran out of disk. Raise --disk, or free space on the machine."
            return Status.FAILED, Reason(code=ReasonCode.DISK_FULL, message=message, evidence=dict(end.evidence))
        case "launch-error":
            # As shells do: 127 is the exit code of a command that there is not.
            message = end.message or "A command could not be started."
            return Status.FAILED, Reason(code=ReasonCode.EXIT_CODE, message=message, evidence={"exit_code": 127})
        case "orphaned":
            raise SupervisorLost("The simulation was ended because the process that watches it had stopped.")
