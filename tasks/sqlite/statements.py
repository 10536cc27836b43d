"""The SQL of the store, read from its files."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^--- ([a-z_.]+): .+$", re.MULTILINE)
_STEP = re.compile(r"(\d{4})_\w+\.sql")


@cache
def statements() -> Mapping[str, str]:
    """Return every statement of `statements.sql` by its name."""
    text = files(__package__).joinpath("statements.sql").read_text("utf-8")
    _, *parts = _HEADER.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


@cache
def migrations() -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Return number and statements of each step of the schema, in the order in which they are applied."""
    folder = files(f"{__package__}.migrations")
    steps = ((_STEP.fullmatch(file.name), file) for file in folder.iterdir())
    return tuple(sorted((int(match[1]), tuple(_split(file.read_text("utf-8")))) for match, file in steps if match))


def _split(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one; sqlite3 itself runs scripts only outside a transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
