"""Brings a database to the schema of this code, or refuses it untouched."""

from __future__ import annotations

from typing import Any

from tasks.errors import StoreTooNew, StoreUnavailable
from tasks.postgres.connecting import SCHEMA, Connection
from tasks.postgres.statements import migrations

_LOCK = int.from_bytes(b"Syar")
"""The advisory lock under which the schema is changed."""


def migrate(connection: Connection) -> None:
    """Apply the migrations that the database lacks, each in a transaction of its own; safe while others do the same.

    The connection is to be closed afterwards: it keeps a lock and has no limits of time.

    Raises:
        StoreTooNew: a newer version of Simyard has written the database.
        StoreUnavailable: its encoding cannot hold every text, or the schema belongs to another program.
    """
    _check_ours(connection)
    if schema_version(connection) >= migrations()[-1][0]:
        return
    # A step over a large table may take long, and others wait for it.
    connection.execute("SET statement_timeout = 0; SET lock_timeout = '600s'")
    # The lock is taken before the transactions: only a new one is sure to see tables that were made meanwhile.
    connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    for number, script in migrations():
        with connection.transaction():
            # Another process may have applied it while this one waited for the lock.
            if schema_version(connection) < number:
                _make_room(connection)
                connection.execute(script.encode())
                connection.execute("INSERT INTO migrations (number) VALUES (%s)", (number,))


def schema_version(connection: Connection) -> int:
    """Return the number of the newest migration that the database has, 0 for an empty one."""
    if _one(connection, "SELECT to_regclass(%s)", f"{SCHEMA}.migrations") is None:
        return 0
    newest: int = _one(connection, "SELECT coalesce(max(number), 0) FROM migrations")
    return newest


def _check_ours(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreUnavailable(
            f"The database has the encoding {encoding}.", fix="Make one with CREATE DATABASE … ENCODING 'UTF8'."
        )
    version, newest = schema_version(connection), migrations()[-1][0]
    if version > newest:
        raise StoreTooNew(
            f"The database has schema {version}, and this version of Simyard knows {newest}.",
            fix="Install the version that wrote it, or a later one.",
        )
    taken = _one(connection, "SELECT min(tablename) FROM pg_tables WHERE schemaname = %s", SCHEMA) is not None
    # The first migration makes all tables at once, and another process may have applied it between the two looks.
    if version == 0 and taken and schema_version(connection) == 0:
        raise StoreUnavailable(
            f"The schema {SCHEMA} of the database belongs to another program; give Simyard a database of its own."
        )


def _make_room(connection: Connection) -> None:
    # Only where it is missing: an administrator may have made it for a role that may make none.
    if _one(connection, "SELECT to_regnamespace(%s)", SCHEMA) is None:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, at TIMESTAMPTZ NOT NULL DEFAULT now())"
    )


def _one(connection: Connection, sql: str, *values: object) -> Any:
    row = connection.execute(sql.encode(), values).fetchone()
    return None if row is None else row[0]
