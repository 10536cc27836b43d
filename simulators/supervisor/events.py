"""What wakes the supervisor: output, signals, processes that end."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable

TICK = 0.05
"""Seconds from one look at things that cannot wake us to the next."""

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Events:
    """Waits for several things at once; the only place that reaps processes."""

    def __init__(self) -> None:
        self.is_stopping = False
        """A signal has asked for the end of the run."""
        self.ended: dict[int, int] = {}
        """How processes ended, as wait(2) tells it."""
        self.largest_process = 0
        """Bytes that the largest process reaped so far had at its peak."""
        self._poll = select.poll()
        self._listeners: dict[int, Callable[[int], object]] = {}

    def listen(self) -> None:
        """Turn signals into events."""
        self._told, self._tell = told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _STOPS:
            signal.signal(number, self._on_stop)
        self.register(told, lambda handle: os.read(handle, 4096))

    def close(self) -> None:
        """Let signals do again what they do by default."""
        for number in (signal.SIGCHLD, *_STOPS):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._told)
        os.close(self._tell)

    def register(self, handle: int, listener: Callable[[int], object], mask: int = select.POLLIN) -> None:
        """Call `listener` with the handle whenever there is something to read; an OSError ends that."""
        self._listeners[handle] = listener
        self._poll.register(handle, mask)

    def unregister(self, handle: int) -> None:
        """Listen to a handle no more."""
        if self._listeners.pop(handle, None) is not None:
            self._poll.unregister(handle)

    def pump(self, seconds: float) -> None:
        """Wait up to `seconds` for something to happen, call the listeners and reap who has ended."""
        for handle, _ in self._poll.poll(seconds * 1000):
            try:
                self._listeners[handle](handle)
            except OSError:
                self.unregister(handle)
        self.reap()

    def reap(self) -> bool:
        """Take note of all processes that have ended; says whether we have no child, and so no descendant, any more.

        A process whose parent has died becomes the child of its nearest ancestor that reaps, and we do: as long as one
        lives below us, one is our child.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self.ended[pid] = status
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if usage.ru_maxrss > own:  # less is our own size, inherited by the fork
                self.largest_process = max(self.largest_process, usage.ru_maxrss * 1024)

    def wait_for(self, pid: int, seconds: float) -> None:
        """Wait until a process has ended, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while pid not in self.ended and (left := deadline - time.monotonic()) > 0:
            self.pump(min(TICK, left))

    def _on_stop(self, *_: object) -> None:
        self.is_stopping = True
