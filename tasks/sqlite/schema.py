"""Brings a database to the schema of this code, or refuses it untouched."""

from __future__ import annotations

import sqlite3

from tasks.errors import StoreTooNew, StoreUnavailable
from tasks.sqlite.statements import migrations

APPLICATION_ID = int.from_bytes(b"Syar")
"""Marks a SQLite file as ours; the first migration writes it."""
_PATIENCE = 600_000
"""Milliseconds for which one waits for others that are at a migration: a step over millions of tasks takes minutes."""


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of the newest migration that the database has."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_ours(connection: sqlite3.Connection) -> None:
    """Return when the database is empty or ours and not newer than this code; nothing is written.

    Raises:
        StoreTooNew: a newer version of Simyard has written it.
        StoreUnavailable: it belongs to another program.
    """
    # One transaction, so that all answers are of one moment: another process may be at the first migration now.
    connection.execute("BEGIN")
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    version, newest = schema_version(connection), migrations()[-1][0]
    connection.execute("COMMIT")
    if application != APPLICATION_ID and (application or tables):
        raise StoreUnavailable("The file is the database of another program; give Simyard a file of its own.")
    if version > newest:
        raise StoreTooNew(
            f"The database has schema {version}, and this version of Simyard knows {newest}.",
            fix="Install the version that wrote it, or a later one.",
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the migrations that the database lacks, each in a transaction of its own; safe while others do the same."""
    missing = [step for step in migrations() if step[0] > schema_version(connection)]
    if not missing:
        return
    [usual] = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    for number, steps in missing:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have applied it while this one waited for the lock.
            if schema_version(connection) < number:
                for statement in steps:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    connection.execute(f"PRAGMA busy_timeout = {usual}")
