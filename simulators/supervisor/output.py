"""The way of the commands' output from their pipes to the logs."""

from __future__ import annotations

import fcntl
import os
import time

from simulators.supervisor.control import STDERR, STDOUT, Control
from simulators.supervisor.events import Events
from simulators.supervisor.logs import Log

_CHUNK = 256 * 1024
_PIPE_BYTES = 1024 * 1024


class Output:
    """Both streams of all commands of a run."""

    def __init__(self, control: Control, events: Events, limit: int) -> None:
        self._logs = [Log(control.path(name), limit) for name in (STDOUT, STDERR)]
        self._events = events
        self._pipes: dict[int, Log] = {}
        self._buffer = bytearray(_CHUNK)
        self.spoke_at = 0.0
        """When something was printed last."""

    def size(self) -> int:
        """Return the bytes of both logs."""
        return sum(log.size for log in self._logs)

    def begin(self) -> tuple[int, int]:
        """Return where the next command is to write; whoever starts it closes both."""
        stdout, stderr = (self._open(log) for log in self._logs)
        return stdout, stderr

    def drain(self) -> None:
        """Take what the pipes still hold and close them, whoever may keep their other ends open."""
        for pipe in list(self._pipes):
            while pipe in self._pipes and self._move(pipe):
                pass
            if pipe in self._pipes:
                self._close(pipe)

    def close(self) -> None:
        """Close the logs."""
        for log in self._logs:
            log.close()
        # All of a run refers to each other, and is here until garbage is looked for.
        self._buffer.clear()

    def last_words(self) -> str:
        """Return the last that the newest command wrote to stderr, as text."""
        return self._logs[1].tail()

    def _open(self, log: Log) -> int:
        log.begin()
        read_end, write_end = os.pipe()
        try:
            fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # the user has many large pipes: a small one works too
        os.set_blocking(read_end, False)
        self._pipes[read_end] = log
        self._events.register(read_end, self._move)
        return write_end

    def _move(self, pipe: int) -> bool:
        """Append one chunk of a pipe to its log; says whether there was one."""
        try:
            size = os.readv(pipe, [self._buffer])
        except BlockingIOError:
            return False
        if size:
            self.spoke_at = time.monotonic()
            self._pipes[pipe].write(memoryview(self._buffer)[:size])
            return True
        self._close(pipe)
        return False

    def _close(self, pipe: int) -> None:
        self._events.unregister(pipe)
        os.close(pipe)
        del self._pipes[pipe]
