"""CPU time and memory of a container, from the files of its control group."""

from __future__ import annotations

import contextlib
import os
import select

from simulators.supervisor.events import Events
from simulators.supervisor.processes import read_small
from simulators.supervisor.usage import Meter

_CGROUPS = "/sys/fs/cgroup"


class CgroupMeter(Meter):
    """CPU time and memory of a container."""

    def __init__(self) -> None:
        super().__init__()
        self.is_out_of_memory = False
        """The kernel has killed a process of the container for lack of memory."""
        self.may_be_out_of_memory = False
        """It may have: its bell rang, and the group was gone before its count of kills could be read."""
        self._files: dict[str, str] = {}
        self._earlier = 0.0
        self._handles: list[int] = []

    def follow(self, pid: int, container: str) -> bool:
        """Follow the control group (version 1 or 2) of this process, adding to what was measured of an earlier one.

        Say whether it is followed: not while the process still is in a group without the container's id in its name,
        the engine's own, whose figures count every container.
        """
        try:
            lines = read_small(f"/proc/{pid}/cgroup").decode().splitlines()
        except OSError:
            return False
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if container not in path:
                continue
            names = controllers.split(",")
            if "memory" in names:
                self._files["memory"] = f"{_CGROUPS}/memory{path}/memory.usage_in_bytes"
                self._files["peak"] = f"{_CGROUPS}/memory{path}/memory.max_usage_in_bytes"
                self._files["kills"] = f"{_CGROUPS}/memory{path}/memory.oom_control"
            if "cpuacct" in names:
                self._files["nanoseconds"] = f"{_CGROUPS}/cpuacct{path}/cpuacct.usage"
            if not controllers and os.path.exists(f"{_CGROUPS}/cgroup.controllers"):
                self._files = {
                    "memory": f"{_CGROUPS}{path}/memory.current",
                    "peak": f"{_CGROUPS}{path}/memory.peak",
                    "kills": f"{_CGROUPS}{path}/memory.events",
                    "microseconds": f"{_CGROUPS}{path}/cpu.stat",
                }
        return bool(self._files)

    def watch(self, events: Events) -> None:
        """Let the supervisor wake at once when the kernel kills for lack of memory: the files go away soon after."""
        if "kills" not in self._files:
            return
        try:
            kills = os.open(self._files["kills"], os.O_RDONLY | os.O_CLOEXEC)
            self._handles.append(kills)
            if self._files["kills"].endswith("memory.events"):
                events.register(kills, self._read_events, select.POLLPRI)
                return
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._handles.append(bell)
            control = os.open(f"{os.path.dirname(self._files['kills'])}/cgroup.event_control", os.O_WRONLY)
            try:
                os.write(control, f"{bell} {kills}".encode())
            finally:
                os.close(control)
            events.register(bell, self._hear_bell)
        except OSError:
            pass  # the container has ended, or the kernel does not ring: looking now and then must do

    def _read_events(self, handle: int) -> None:
        self._read_kills(os.pread(handle, 4096, 0))
        self._read_peak()

    def _read_peak(self) -> None:
        """Read how much memory there was at most, while the group is there: soon it is gone with its files."""
        with contextlib.suppress(OSError):
            self.peak = max(self.peak, int(read_small(self._files["peak"])))

    def _hear_bell(self, bell: int) -> None:
        # The removal of a group rings too, once or twice, so a bell alone proves nothing; but by then its files are
        # gone. One that can be read has rung for memory: the kernel rings before it has chosen whom to kill.
        rings = os.eventfd_read(bell)
        with contextlib.suppress(OSError):
            self._read_kills(os.pread(self._handles[0], 4096, 0))
            self.may_be_out_of_memory = True
        self._read_peak()
        self.may_be_out_of_memory = rings > 1 or self.may_be_out_of_memory

    def _read_kills(self, text: bytes) -> None:
        for line in text.splitlines():
            name, _, number = line.partition(b" ")
            if name == b"oom_kill" and int(number):
                self.is_out_of_memory = True

    def forget(self, events: Events) -> None:
        """Follow nothing, until another container is there."""
        self._earlier = self.cpu_seconds
        self.may_be_out_of_memory = False
        self._files = {}
        for handle in self._handles:
            events.unregister(handle)
            os.close(handle)
        self._handles = []

    @property
    def is_following(self) -> bool:
        """Say whether a control group is known."""
        return bool(self._files)

    def look(self, limit: int, *, now: float, force: bool = False) -> None:
        """Measure; a control group that is gone leaves the last figures."""
        for name, path in self._files.items():
            try:
                text = read_small(path)
            except OSError:
                continue
            match name:
                case "memory":
                    self.memory = int(text)
                    self.peak = max(self.peak, self.memory)
                case "peak":
                    self.peak = max(self.peak, int(text))
                case "kills":
                    self._read_kills(text)
                case "nanoseconds":
                    self.cpu_seconds = max(self.cpu_seconds, self._earlier + int(text) / 1e9)
                case _:
                    used = int(text.split()[1]) / 1e6  # the first line: usage_usec N
                    self.cpu_seconds = max(self.cpu_seconds, self._earlier + used)
