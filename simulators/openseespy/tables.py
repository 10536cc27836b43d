"""The table that an OpenSeesPy run's CSV and recorder files give."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simyard.task import Value

if TYPE_CHECKING:
    import pyarrow as pa

MAX_VALUES = 5_000_000
"""The most numbers that are read from one task."""


def values(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:  # noqa: ARG001 - fits TableParser
    """Return one row a number: the file, the row from 0, the column and the value.

    A CSV file's first line names its columns unless it holds numbers only; other columns are named by their place
    from 0.

    Raises:
        ValueError: there are more than MAX_VALUES numbers.
    """
    import pyarrow as pa

    files: list[str] = []
    columns: list[str] = []
    rows, numbers = array("q"), array("d")
    for path in sorted((*folder.rglob("*.csv"), *folder.rglob("*.out"))):
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        for row, column, number in _read_csv(path) if path.suffix == ".csv" else _read_recorder(path):
            if len(numbers) >= MAX_VALUES:
                raise ValueError(f"the CSV and recorder files hold more than {MAX_VALUES} numbers")
            files.append(name)
            columns.append(column)
            rows.append(row)
            numbers.append(number)
    if not numbers:
        return None
    return pa.table(
        {
            "file": pa.array(files).dictionary_encode(),
            "row": pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)]),
            "column": pa.array(columns).dictionary_encode(),
            "value": pa.Array.from_buffers(pa.float64(), len(numbers), [None, pa.py_buffer(numbers)]),
        }
    )


def _read_csv(path: Path) -> Iterator[tuple[int, str, float]]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file)
        head = next(lines, [])
        names = [name.strip() for name in head] if any(_number(cell) is None for cell in head) else []
        first = 0
        if not names:
            yield from _cells(0, head, [])
            first = 1
        for row, cells in enumerate(lines, start=first):
            yield from _cells(row, cells, names)


def _read_recorder(path: Path) -> Iterator[tuple[int, str, float]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for row, line in enumerate(file):
            yield from _cells(row, line.split(), [])


def _cells(row: int, cells: list[str], names: list[str]) -> Iterator[tuple[int, str, float]]:
    for i, cell in enumerate(cells):
        number = _number(cell)
        if number is not None:
            yield row, names[i] if i < len(names) and names[i] else str(i), number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
