"""Connections to the database server: a few at a time, made anew when they are lost, and errors in our words."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

import psycopg

from tasks.errors import StoreUnavailable
from tasks.postgres.connecting import Connection, Dial, is_alive, is_passing, translated
from tasks.postgres.schema import migrate

T = TypeVar("T")

_TRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Database:
    """A PostgreSQL database that several threads, processes and machines use together.

    `busy_seconds` is how long a call waits for a free connection, and for a lock, before it gives up; `connections` is
    how many it has open at most.
    """

    def __init__(self, dial: Dial, *, busy_seconds: float = 10.0, connections: int = 8) -> None:
        self._dial = dial
        self._busy = busy_seconds
        self._closed = False
        self._count = connections
        self._idle: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(connections):
            self._idle.put(None)
        try:
            with closing(dial.connect()) as connection:
                migrate(connection)
        except psycopg.Error as error:
            raise dial.unavailable(error) from error

    def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Return what the work gives, inside a transaction that is on disk by then and undone when it raises.

        When the server goes away the work is done again, a few times. The answer to a commit may be what was lost, so
        the work must recognise what an earlier run of itself has stored. Without `durable` a crash of the server may
        undo it: for what is soon repeated anyway.
        """
        return self._persist(lambda connection: _transact(connection, work, durable=durable))

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what the work reads; each statement sees one state of the database."""
        return self._persist(work)

    def close(self) -> None:
        """Close every connection, once those in use are free."""
        self._closed = True
        for _ in range(self._count):
            with suppress(queue.Empty):
                if connection := self._idle.get(timeout=self._busy):
                    connection.close()
        for _ in range(self._count):
            self._idle.put(None)

    def check_open(self) -> None:
        """Return unless the store is closed."""
        if self._closed:
            raise StoreUnavailable("The store is closed.")

    def _persist(self, act: Callable[[Connection], T]) -> T:
        deadline, pause = time.monotonic() + self._busy, _FIRST_PAUSE
        for tries in range(1, _TRIES + 1):
            try:
                with self._connection() as connection:
                    return act(connection)
            except psycopg.Error as error:
                if not is_passing(error) or tries == _TRIES or time.monotonic() > deadline:
                    raise translated(error) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - chance is for spreading, not for secrets
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        self.check_open()
        try:
            connection = self._idle.get(timeout=self._busy)
        except queue.Empty:
            raise StoreUnavailable("The database is too busy.") from None
        try:
            self.check_open()
            if connection is not None and not is_alive(connection):
                connection.close()
                connection = None
            connection = connection or self._dial.connect()
            yield connection
        finally:
            if connection is not None and not _is_reusable(connection):
                connection.close()
                connection = None
            self._idle.put(connection)


def _transact(connection: Connection, work: Callable[[Connection], T], *, durable: bool) -> T:
    try:
        # In a pipeline a statement is sent together with those before it whose answers nobody has asked for yet.
        with connection.pipeline():
            connection.execute("BEGIN")
            if not durable:
                connection.execute("SET LOCAL synchronous_commit = off")
            answer = work(connection)
            done = connection.execute("COMMIT")
    except BaseException:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
    if done.statusmessage != "COMMIT":
        raise AssertionError("a statement has failed, and the work went on as if it had not")
    return answer


def _is_reusable(connection: Connection) -> bool:
    """Say whether a connection may serve the next call: it lives, and no transaction was left open."""
    return not connection.closed and connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
