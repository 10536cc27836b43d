"""Copies, checks and compaction of the database file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from simyard.errors import Conflict, InvalidInput
from tasks.sqlite.database import translated
from tasks.sqlite.schema import check_ours, migrate
from tasks.sqlite.statements import statements

_PAGES = 2000
_WAIT_SECONDS = 30.0
_SHOWN = 20
"""Of a kind of trouble so many are told one by one."""


def backup(database: Path, target: Path, progress: Callable[[int, int], None]) -> int:
    """Write the database as it is at this moment into a new file, while others go on using it; returns its bytes.

    `progress` is told the pages that are done and all of them. The file is there whole or not at all, on disk, and only
    its owner can read it.

    Raises:
        Conflict: the target exists.
        InvalidInput: there is no database, or the target's folder does not exist.
        StoreUnavailable: the database cannot be read, or the disk of the target is full.
    """
    if not database.exists():
        raise InvalidInput(f"There is no database {database}.", fix="Start the server once, or set SIMYARD_DATA_DIR.")
    if target.exists():
        raise Conflict(f"{target} exists.", field="FILE", fix="Name a new file.")
    if not target.parent.is_dir():
        raise InvalidInput(f"The folder {target.parent} does not exist.", field="FILE", fix="Make it first.")
    partial = target.with_name(f"{target.name}.partial")
    try:
        with translated():
            _copy(database, partial, progress)
            partial.replace(target)
            _sync(target.parent)
            return target.stat().st_size
    finally:
        partial.unlink(missing_ok=True)


def check(database: Path) -> Iterator[str]:
    """Give what is wrong with a database, a sentence each; nothing where it is sound.

    Raises:
        StoreUnavailable: the file is no database of ours, or cannot be read.
        StoreTooNew: a newer version of Simyard has written it.
    """
    with translated(), closing(_read_only(database)) as connection:
        check_ours(connection)
        if damage := _damage(connection):
            yield f"The file is damaged: {damage}."
            return
        for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            yield f"Row {row} of {table} names a row of {parent} that is not there."
        for name, sentence in _RULES.items():
            found = [str(row[0]) for row in connection.execute(statements()[f"check.{name}"])]
            shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
            if found:
                yield f"{sentence}: {shown}."


def _damage(connection: sqlite3.Connection) -> str | None:
    """Return the first thing that SQLite finds wrong with the file itself."""
    try:
        first: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if first == "ok" else first


_RULES = {
    "status": "The status of these tasks is not the one that their body tells",
    "held": "These tasks are active and nobody holds them, or are held and not active",
    "waiting": "These tasks wait, and there is nothing that they wait for",
    "story": "The last event of these tasks tells another status than they have",
}


def vacuum(database: Path) -> tuple[int, int]:
    """Give unused room back to the disk, and forget lists of inputs that no task names; returns bytes before and after.

    Nobody else may use the database meanwhile.

    Raises:
        StoreUnavailable: others use it, or the disk has no room for a second copy.
    """
    before = database.stat().st_size
    with translated(), closing(sqlite3.connect(database, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
        check_ours(connection)
        migrate(connection)
        connection.execute(statements()["drop_unused_inputs"])
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, database.stat().st_size


def replace(database: Path, source: Path, aside: Path, progress: Callable[[int, int], None]) -> None:
    """Put a copy of `source` in the place of the database, which is kept at `aside`; at each moment there is one.

    Nobody else may use the database meanwhile.

    Raises:
        StoreUnavailable: a disk is full, or fails.
    """
    fresh = database.with_name(f"{database.name}.restoring")
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        with translated():
            _copy(source, fresh, progress)
            if database.exists():
                _settle_log(database, aside)
                aside.hardlink_to(database)
            fresh.replace(database)
            _sync(database.parent)
    finally:
        fresh.unlink(missing_ok=True)


def _settle_log(database: Path, aside: Path) -> None:
    """Bring the write-ahead log into the file; that of a damaged database is kept beside it."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for ending in ("-wal", "-shm"):
        log = database.with_name(database.name + ending)
        if log.exists():
            log.replace(aside.with_name(aside.name + ending))


def _copy(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(_read_only(source)) as connection, closing(sqlite3.connect(target, isolation_level=None)) as copy:
        check_ours(connection)
        # The transaction pins one state of the database, so that writers between two steps do not start it all anew.
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        connection.backup(copy, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total))
        connection.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = DELETE")
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS, isolation_level=None
    )


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
