"""Calls of the container engine."""

from __future__ import annotations

import os
import signal
import time

from simulators.supervisor.ends import LaunchError
from simulators.supervisor.events import Events
from simulators.supervisor.processes import send
from simulators.supervisor.programs import spawn

ENGINE_SECONDS = 60.0
"""How long a call of the engine may take."""


class Engine:
    """A container engine's command line; calls never raise, and events go on meanwhile."""

    def __init__(self, argv: list[str], environment: dict[str, str], events: Events) -> None:
        self._argv = argv
        self._environment = environment
        self._events = events

    def terminate(self, container: str) -> bool:
        """Send SIGTERM to a container's command; says whether it was there to hear it."""
        return self._call("kill", "--signal", "TERM", container)[0] == 0

    def remove(self, container: str) -> None:
        """End a container and remove it; one that is not there is fine."""
        self._call("rm", "--force", container)

    def inspect(self, container: str, form: str) -> str | None:
        """Return what the engine knows of a container, in the form of a Go template; None when it knows none."""
        code, said = self._call("container", "inspect", "--format", form, container)
        return said.decode(errors="replace").strip() if code == 0 else None

    def _call(self, *arguments: str) -> tuple[int, bytes]:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        said = b""
        try:
            pid = spawn([*self._argv, *arguments], self._environment, "/", (null, write_end, null))
            deadline = time.monotonic() + ENGINE_SECONDS
            while pid not in self._events.ended:
                self._events.pump(0.01)
                said += _read(read_end)
                if time.monotonic() > deadline:
                    send(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(self._events.ended[pid]), said + _read(read_end)
        except LaunchError:
            return 127, b""
        finally:
            for handle in (read_end, write_end, null):
                os.close(handle)


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except BlockingIOError:
        return b""
