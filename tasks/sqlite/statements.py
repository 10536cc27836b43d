"""The SQL of the store, read from its files."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from functools import cache

from tasks.sql import read_migrations, read_statements


@cache
def statements() -> Mapping[str, str]:
    """Return every statement of `statements.sql` by its name."""
    return read_statements(__package__)


@cache
def of_many(name: str, count: int) -> tuple[str, tuple[str, ...]]:
    """Return a statement that adds so many rows where the named one adds one, and the columns of a row in their order.

    It takes the values of all rows one after the other.
    """
    head, row = statements()[name].rsplit("VALUES", 1)
    columns = re.findall(r":(\w+)", row)
    return f"{head}VALUES " + ",".join([f"({','.join('?' * len(columns))})"] * count), tuple(columns)


@cache
def migrations() -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Return number and statements of each step of the schema, in the order in which they are applied."""
    return tuple((number, tuple(_split(script))) for number, script in read_migrations(__package__))


def _split(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one; sqlite3 itself runs scripts only outside a transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
