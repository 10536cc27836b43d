"""How the processes of a server's head tell its dispatcher that the store has news.

It is a named pipe: to ring costs one write and wakes the thread that waits, where a call of Ray's takes a millisecond
through several threads. It holds nothing that may not be lost; who is not woken looks by itself soon.
"""

from __future__ import annotations

import logging
import os
import select
import stat
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_MANY = 65536
"""As many bytes as a pipe holds."""


class Bell:
    """The bell of a dispatcher, by the file at `path`; safe to ring from any thread."""

    def __init__(self, path: Path) -> None:
        try:
            with suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # Open for both, it never ends; and whoever rings finds somebody there.
            handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISFIFO(os.fstat(handle).st_mode):
                os.close(handle)
                raise FileExistsError("it is no named pipe")
            self._hears, self._rings = handle, handle
        except OSError as error:
            log.warning("only this process can ring the bell %s: %s", path, error)
            self._hears, self._rings = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._hears, select.POLLIN)

    def ring(self) -> None:
        """Let the wait that goes on, or the next one, return."""
        with suppress(BlockingIOError):  # it is full of what nobody has heard yet
            os.write(self._rings, b"\0")

    def wait(self, seconds: float) -> None:
        """Return once somebody has rung, now or since the last wait, and at the latest after so many seconds."""
        if self._poll.poll(seconds * 1000):
            with suppress(BlockingIOError):
                os.read(self._hears, _MANY)


def ring(path: Path) -> None:
    """Ring another process's bell.

    Raises:
        OSError: nobody is there to hear it.
    """
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):
            os.write(handle, b"\0")
    finally:
        os.close(handle)
