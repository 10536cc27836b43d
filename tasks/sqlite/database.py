"""Connections to the database file: one that writes, a few that read, and errors in our words."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import StoreUnavailable
from tasks.sqlite.schema import check_ours, migrate

_READERS = 4
_PAUSE = 0.02
_REASONS = {
    sqlite3.SQLITE_BUSY: "Another process has kept the database locked for too long.",
    sqlite3.SQLITE_LOCKED: "Another process has kept the database locked for too long.",
    sqlite3.SQLITE_FULL: "The disk with the database is full.",
    sqlite3.SQLITE_READONLY: "The database may only be read.",
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened.",
    sqlite3.SQLITE_CORRUPT: "The database file is damaged.",
    sqlite3.SQLITE_NOTADB: "The file is not a database.",
    sqlite3.SQLITE_IOERR: "The disk with the database gave an error.",
}


class Database:
    """A SQLite file in WAL mode that several threads and processes use together.

    `busy_seconds` is how long a call waits for others before it gives up.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 10.0) -> None:
        self._path = path
        self._busy = busy_seconds
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._durable = True
        self._closed = False
        self._readers: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(_READERS):
            self._readers.put(None)
        with translated():
            _make_file(path)
            self._writer = self._prepare()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction, which is on disk when the block ends and undone when it raises.

        Without `durable` a power failure (not a crash of the process) may undo it: for what is soon repeated anyway.
        """
        if not self._lock.acquire(timeout=self._busy):
            raise StoreUnavailable("The database is too busy.")
        try:
            self._check_open()
            with translated():
                connection = self._writer = self._writer or self._connect_writer()
                self._set_durable(connection, durable=durable)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    self._undo(connection)
                    raise
        finally:
            self._lock.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that only reads; each statement sees one state of the database."""
        try:
            connection = self._readers.get(timeout=self._busy)
        except queue.Empty:
            raise StoreUnavailable("The database is too busy.") from None
        try:
            self._check_open()
            with translated():
                if connection is None:
                    connection = self._connect()
                    connection.execute("PRAGMA query_only = ON")
                    # Another connection's commit empties the cache: more than a query's pages would only be held.
                    connection.execute("PRAGMA cache_size = -512")
                yield connection
        finally:
            self._readers.put(connection)

    def close(self) -> None:
        """Close every connection, once those in use are free."""
        self._closed = True
        for _ in range(_READERS):
            with suppress(queue.Empty):
                if connection := self._readers.get(timeout=self._busy):
                    connection.close()
        for _ in range(_READERS):
            self._readers.put(None)
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed.")

    def _prepare(self) -> sqlite3.Connection:
        connection = self._connect_writer()
        try:
            check_ours(connection)
            self._use_wal(connection)
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        # What a large batch changes stays in memory until it is committed, and is brought from the log into the file
        # half as often as a batch comes: a tenth less for each of its tasks.
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Autocommit, so that transactions are those that write() begins; threads take turns by the lock and the pool.
        connection = sqlite3.connect(self._path, timeout=self._busy, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                # SQLite does not wait for others here by itself.
                if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                break
        if mode != "wal":
            raise StoreUnavailable("The database's file system has no shared memory; put it on a local disk.")

    def _set_durable(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        if durable is not self._durable:
            connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._durable = durable

    def _undo(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            self._writer, self._durable = None, True


@contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLite and the file system say into StoreUnavailable; defects of ours go through as they are."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        raise StoreUnavailable(_REASONS.get(_primary(error), f"The database gave an error: {error}.")) from error
    except OSError as error:
        raise StoreUnavailable(f"The database file cannot be used: {error.strerror}.") from error


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _make_file(path: Path) -> None:
    """Make an empty file that only its owner can read, and its name durable: it will hold the hashes of keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
