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
def columns_of(name: str) -> tuple[str, ...]:
    """Return the columns of the named statement, which adds one row, in the order of their values."""
    return tuple(re.findall(r":(\w+)", statements()[name]))


@cache
def of_many(name: str, count: int, own: tuple[str, ...]) -> str:
    """Return a statement that adds so many rows where the named one adds one.

    It takes the values of the columns that all rows have alike, in their order, and then those of the columns `own`,
    one row after the other.
    """
    head, values = statements()[name].rsplit("VALUES", 1)
    columns = columns_of(name)
    alike = [column for column in columns if column not in own]
    # Every value that is the same in all rows is given once, by its number.
    places = {column: i for i, column in enumerate([*alike, *own], 1)}
    made = [
        ",".join([f"?{places[column] + (len(own) * row if column in own else 0)}" for column in columns])
        for row in range(count)
    ]
    return f"{head}VALUES ({'),('.join(made)}){values.rpartition(')')[2]}"


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
