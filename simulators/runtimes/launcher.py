"""This process's launcher of supervisors."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from simulators import supervisor
from simulators.errors import SupervisorLost

_PROGRAM = Path(supervisor.__file__).with_name("__main__.py")
_SECONDS = 30.0


class Launcher:
    """Starts supervisors by way of one process that is begun when it is first needed, and anew when it has died.

    That process ends with ours; the supervisors do not. Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._calls: socket.socket | None = None

    def warm_up(self) -> None:
        """Begin the process now, so that the first run need not wait for it; returns at once."""
        with self._lock, suppress(SupervisorLost):
            self._open()

    def start(self, control: Path) -> int | None:
        """Let a supervisor carry the run of a control folder that holds its plan; None where it did not come up.

        What is returned is the end of a pipe for reading, which is closed at the other end when the run is over.

        Raises:
            SupervisorLost: the launcher does not work, so that nobody knows; the text says why.
        """
        told, tell = os.pipe()
        try:
            answer = self._call(control, tell)
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        if answer == supervisor.STARTED:
            return told
        os.close(told)
        return None

    def _call(self, control: Path, tell: int) -> bytes:
        with self._lock:
            calls = self._open()
            calls.settimeout(_SECONDS)
            try:
                supervisor.call(calls, os.fsencode(control.resolve()), tell)
                answer = calls.recv(1)
            except TimeoutError:
                self.close()
                raise SupervisorLost(f"The launcher did not answer for {_SECONDS:g} s.") from None
            except OSError as error:
                self.close()
                raise SupervisorLost(f"The launcher takes no calls: {error}") from error
            if not answer:
                self.close()
                raise SupervisorLost("The launcher died.")
            return answer

    def _open(self) -> socket.socket:
        if self._calls is not None and self._process is not None and self._process.poll() is None:
            return self._calls
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_PROGRAM)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise SupervisorLost(f"The launcher could not be started: {error}") from error
        self._calls = ours
        return ours

    def close(self) -> None:
        """End the process; the runs go on."""
        if self._calls is not None:
            self._calls.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._calls = self._process = None


LAUNCHER = Launcher()
"""The one of this process."""
atexit.register(LAUNCHER.close)
