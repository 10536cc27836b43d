"""The SQL of the store, read from its files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tasks.sql import read_migrations, read_statements


@cache
def statements() -> Mapping[str, str]:
    """Return every statement of `statements.sql` by its name."""
    return read_statements(__package__)


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """Return number and script of each step of the schema, in the order in which they are applied."""
    return read_migrations(__package__)
