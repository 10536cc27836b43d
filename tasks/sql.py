"""SQL in files: named statements, and the numbered steps of a schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

_HEADER = re.compile(r"^--- ([a-z_.]+): .+$", re.MULTILINE)
_STEP = re.compile(r"(\d{4})_\w+\.sql")


def read_statements(package: str) -> Mapping[str, str]:
    """Return every statement of a package's `statements.sql` by its name; a line `--- name: sentence` begins each."""
    text = files(package).joinpath("statements.sql").read_text("utf-8")
    _, *parts = _HEADER.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def read_migrations(package: str) -> tuple[tuple[int, str], ...]:
    """Return number and script of each file in a package's `migrations`, in the order in which they are applied."""
    folder = files(f"{package}.migrations")
    steps = ((_STEP.fullmatch(file.name), file) for file in folder.iterdir())
    return tuple(sorted((int(match[1]), file.read_text("utf-8")) for match, file in steps if match))
