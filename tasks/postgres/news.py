"""News of events across machines by LISTEN and NOTIFY: a bell that tells the others, and an ear that hears them."""

from __future__ import annotations

import random
import threading
from contextlib import suppress

import psycopg

from tasks.postgres.connecting import Connection, Dial

CHANNEL = "simyard_events"
_EVERY = 0.01
"""The shortest pause between two notifications in seconds; what happens meanwhile is told by the later one."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class _Line:
    """A thread with a connection of its own, which is made anew with pauses while the server is away."""

    def __init__(self, dial: Dial, name: str) -> None:
        self._dial = dial
        self._name = name
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread where it does not run yet."""
        with self._starting:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """End the thread."""
        self._closed.set()
        self.interrupt()
        if self._thread is not None:
            self._thread.join(seconds)

    def interrupt(self) -> None:
        """Make the thread look whether it shall end."""

    def use(self, connection: Connection) -> None:
        """Use the connection until it is lost or the line is closed."""
        raise NotImplementedError

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.is_set():
            with suppress(psycopg.Error), self._dial.connect() as connection:
                pause = _FIRST_PAUSE
                self.use(connection)
            self._closed.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - chance is for spreading, not for secrets
            pause = min(pause * 2, _LONGEST_PAUSE)


class Bell(_Line):
    """Tells all that listen that there are events.

    It is rung after a commit and not inside of the transaction: PostgreSQL lets transactions that notify commit only
    one after the other, each waiting for the disk. A notification that is lost costs a listener a second.
    """

    def __init__(self, dial: Dial) -> None:
        super().__init__(dial, "simyard-bell")
        self._rung = threading.Event()

    def ring(self) -> None:
        """Notify soon; returns at once."""
        self._rung.set()
        if self._thread is None:
            self.start()

    def interrupt(self) -> None:
        """Make the thread look whether it shall end."""
        self._rung.set()

    def use(self, connection: Connection) -> None:
        """Notify each time that the bell was rung."""
        connection.execute("SET synchronous_commit = off")
        while True:
            self._rung.wait()
            if self._closed.is_set():
                return
            self._rung.clear()
            try:
                connection.execute(f"NOTIFY {CHANNEL}".encode())
            except psycopg.Error:
                self._rung.set()
                raise
            self._closed.wait(_EVERY)


class Ear(_Line):
    """Hears that there are events."""

    def __init__(self, dial: Dial) -> None:
        super().__init__(dial, "simyard-ear")
        self._heard = threading.Condition()
        self._count = 0

    def count(self) -> int:
        """Return a number that grows whenever there may be news; listening begins with the first call."""
        if self._thread is None:
            self.start()
        with self._heard:
            return self._count

    def wait(self, count: int, seconds: float) -> None:
        """Return once the number is another one, or after so many seconds."""
        with self._heard:
            self._heard.wait_for(lambda: self._count != count or self._closed.is_set(), seconds)

    def interrupt(self) -> None:
        """Make those that wait look again."""
        with self._heard:
            self._heard.notify_all()

    def use(self, connection: Connection) -> None:
        """Listen."""
        connection.execute(f"LISTEN {CHANNEL}".encode())
        # What was told while nobody listened is lost, so there may be news now.
        self._hear()
        while not self._closed.is_set():
            for _ in connection.notifies(timeout=1.0, stop_after=1):
                self._hear()

    def _hear(self) -> None:
        with self._heard:
            self._count += 1
            self._heard.notify_all()
