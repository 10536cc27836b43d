"""The table that a LAMMPS run's log gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from simyard.task import Value

if TYPE_CHECKING:
    import pyarrow as pa

LOG = "log.lammps"
"""The log's path."""
MAX_ROWS = 10_000_000
"""The most rows that are read."""


def thermo(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:  # noqa: ARG001 - fits TableSpec
    """Return one row a run of the script, counted from 1, step and quantity: run, step, quantity, value."""
    import pyarrow as pa

    runs: list[int] = []
    steps: list[int] = []
    names: list[str] = []
    values: list[float] = []
    path = folder / LOG
    if not path.is_file():
        return None
    with path.open(errors="replace") as lines:
        for run, step, name, value in _rows(lines):
            if len(runs) == MAX_ROWS:
                break
            runs.append(run)
            steps.append(step)
            names.append(name)
            values.append(value)
    if not runs:
        return None
    return pa.table(
        {
            "run": pa.array(runs, pa.int64()),
            "step": pa.array(steps, pa.int64()),
            "quantity": pa.array(names).dictionary_encode(),
            "value": pa.array(values, pa.float64()),
        }
    )


def _rows(lines: Iterator[str]) -> Iterator[tuple[int, int, str, float]]:
    """Give the values below each head, which begins with the word Step; other lines between them are warnings."""
    run, head = 0, list[str]()
    for line in lines:
        words = line.split()
        if words[:1] == ["Step"]:
            run, head = run + 1, words
        elif line.startswith("Loop time of"):
            head = []
        elif head and len(words) == len(head):
            with suppress(ValueError):
                numbers = [float(word) for word in words]
                for name, value in zip(head[1:], numbers[1:], strict=True):
                    yield run, int(numbers[0]), name, value
