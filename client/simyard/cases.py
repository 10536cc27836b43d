"""The cases of a sweep: rows of a table and combinations of a grid, checked before anything is made of them."""

from __future__ import annotations

import csv
import difflib
import io
import keyword
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from simyard.errors import InvalidInput
from simyard.task import Value

MAX_CASES = 10_000
"""The most cases of one sweep."""
MAX_COLUMNS = 1000
MAX_TABLE = 32 * 1024 * 1024
"""Bytes of the largest file with a table of parameters."""
MAX_TEXT = 10_000
"""Characters of the longest value."""

OWN = ("case", "task")
"""What a template can use beside the parameters, or a result table has beside them."""
_TAKEN = frozenset({"true", "false", "none", "loop", "self", "super", "caller", "varargs", "kwargs"})
_LARGEST = 2**63 - 1
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Cases:
    """Rows that have the same columns, each combined with every point of a grid."""

    rows: Sequence[Mapping[str, Value]]
    grid: Mapping[str, Sequence[Value]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the parameters: those of the rows, then those of the grid."""
        return (*(self.rows[0] if self.rows else ()), *self.grid)

    def __len__(self) -> int:
        return (len(self.rows) or 1) * math.prod(len(values) for values in self.grid.values())

    def __iter__(self) -> Iterator[dict[str, Value]]:
        """Give the values of each case; the last parameter of the grid changes fastest."""
        for row in self.rows or ({},):
            for point in product(*self.grid.values()):
                yield {**row, **dict(zip(self.grid, point, strict=True))}


def cases_of(
    rows: Sequence[Mapping[str, Value]],
    grid: Mapping[str, Sequence[Value]],
    *,
    field: str = "rows",
    label: str = "row",
    first: int = 1,
) -> Cases:
    """Return the cases of a table and a grid; `label` and `first` say how a reader of the table counts its rows.

    Raises:
        InvalidInput: there is no parameter; there are too many cases; a name is no identifier or comes twice; a row
            lacks a value; a value is too long, no finite number, or of another kind than the others of its column.
    """
    for name in grid:
        check_name(name, f"grid.{name}")
    _check_grid(grid)
    _check_rows(rows, field, label, first)
    cases = Cases(rows, grid)
    if not cases.columns:
        fix = "Give a grid, such as velocity=10,15,20, or a table with a row for each case."
        raise InvalidInput("The sweep has no parameters.", field="grid", fix=fix)
    if len(set(cases.columns)) < len(cases.columns):
        twice = next(name for name in grid if name in rows[0])
        raise InvalidInput("The table has this parameter too.", field=f"grid.{twice}", fix="Leave it out of one.")
    if len(cases.columns) > MAX_COLUMNS:
        raise InvalidInput(f"There are {len(cases.columns)} parameters; a sweep takes {MAX_COLUMNS}.", field=field)
    if len(cases) > MAX_CASES:
        where = "grid" if grid else field
        reason = f"This makes {len(cases):,} cases; a sweep takes at most {MAX_CASES:,}."
        raise InvalidInput(reason, field=where, fix="Give fewer values, or several sweeps.")
    return cases


def check_name(name: str, field: str) -> None:
    """Refuse a parameter whose name a template could not use.

    Raises:
        InvalidInput: the name is no identifier, is too long, or has a meaning of its own.
    """
    shown = name if len(name) <= 60 else name[:57] + "..."
    if not name.isidentifier() or len(name) > 100:
        reason = f"{shown!r} cannot be the name of a parameter."
        fix = "Use letters, digits and underscores, and a letter first; separate columns with commas."
        raise InvalidInput(reason, field=field, fix=fix)
    if keyword.iskeyword(name) or name.lower() in _TAKEN or name in OWN:
        raise InvalidInput(f"{name!r} has a meaning of its own.", field=field, fix="Choose another name.")


def check_table_size(size: int) -> None:
    """Refuse a file with a table of parameters that is too large to be read.

    Raises:
        InvalidInput: it has more than MAX_TABLE bytes.
    """
    if size > MAX_TABLE:
        reason = f"The table has {size:,} bytes; a sweep takes at most {MAX_TABLE:,}."
        raise InvalidInput(reason, field="table", fix="Leave out what no template uses.")


def read_csv(data: bytes, field: str = "table") -> list[dict[str, Value]]:
    """Return the rows of a CSV file with a line of names, each value with the type that its whole column can have.

    Raises:
        InvalidInput: the text is not UTF-8, a name comes twice or is none, a line has too few or too many cells, a cell
            is empty, or there is no row.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"line {line} is not UTF-8.", field=field, fix="Save the table as UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    head: list[str] | None = None
    lines: list[int] = []
    columns: list[list[str]] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                continue
            if head is None:
                head = _head([cell.strip() for cell in cells], field)
                columns = [[] for _ in head]
                continue
            _check_cells(cells, head, f"line {reader.line_num}", field)
            if len(lines) >= MAX_CASES:
                reason = f"There are more than {MAX_CASES:,} rows, the most that a sweep takes."
                raise InvalidInput(reason, field=field, fix="Make several sweeps of it.")
            lines.append(reader.line_num)
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell.strip())
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num} is no CSV: {error}.", field=field, fix="Mend that line.") from None
    if not lines or head is None:
        what = "has no rows below its line of names" if head else "is empty"
        raise InvalidInput(f"The table {what}.", field=field, fix="Write a line of names, then a line for each case.")
    typed = [values_of(column) for column in columns]
    return [dict(zip(head, row, strict=True)) for row in zip(*typed, strict=True)]


def values_of(texts: Sequence[str]) -> list[Value]:
    """Return texts of one column as what all of them can be: whole numbers, numbers, booleans, or texts.

    A number with a leading zero, such as `007`, is a text.
    """
    if all(_WHOLE.fullmatch(text) and len(text) < 19 for text in texts):
        return [int(text) for text in texts]
    if all(_NUMBER.fullmatch(text) and not re.match(r"[+-]?0\d", text) for text in texts):
        numbers = [float(text) for text in texts]
        if all(math.isfinite(number) for number in numbers):
            return list(numbers)
    if all(text.lower() in _BOOLEANS for text in texts):
        return [_BOOLEANS[text.lower()] for text in texts]
    return list(texts)


def nearest(name: str, known: Sequence[str], what: str) -> str:
    """Return what a wrong name may have meant."""
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return (f"Did you mean {' or '.join(close)}? " if close else "") + f"{what}: {listed}."


def _head(names: list[str], field: str) -> list[str]:
    for i, name in enumerate(names):
        if not name:
            raise InvalidInput(f"column {i + 1} has no name.", field=field, fix="Name it in the first line.")
        check_name(name, field)
        if name in names[:i]:
            raise InvalidInput(f"the column {name!r} comes twice.", field=field, fix="Rename or remove one.")
    return names


def _check_cells(cells: Sequence[str], head: Sequence[str], where: str, field: str) -> None:
    if len(cells) != len(head):
        reason = f"{where} has {len(cells)} cells, and the first line has {len(head)} names."
        raise InvalidInput(reason, field=field, fix="Give each line one cell for each name.")
    for name, cell in zip(head, cells, strict=True):
        if not cell.strip():
            raise InvalidInput(f"{where}, column {name}: the cell is empty.", field=field, fix="Fill it.")


def _check_grid(grid: Mapping[str, Sequence[Value]]) -> None:
    for name, values in grid.items():
        where = f"grid.{name}"
        if not values:
            raise InvalidInput("It has no values.", field=where, fix=f"Give some, such as {name}=10,15,20.")
        for i, value in enumerate(values):
            _check_value(value, f"{where}.{i}", "")
            if i and _kind(value) != _kind(values[0]):
                raise _mixed(value, values[0], f"{where}.{i}", "")
        if len(set(values)) < len(values):
            twice = next(value for i, value in enumerate(values) if value in values[:i])
            raise InvalidInput(f"The value {twice!r} comes twice.", field=where, fix="Give each value once.")


def _check_rows(rows: Sequence[Mapping[str, Value]], field: str, label: str, first: int) -> None:
    if not rows:
        return
    names = tuple(rows[0])
    for name in names:
        check_name(name, f"{field}.0.{name}" if field == "rows" else field)
    for i, row in enumerate(rows):
        at, said = (f"{field}.{i}", "") if field == "rows" else (field, f"{label} {i + first}: ")
        odd = [name for name in row if name not in rows[0]]
        if odd:
            raise InvalidInput(
                f"{said}the first row has no {odd[0]!r}.", field=at, fix=nearest(odd[0], names, "Columns")
            )
        for name in names:
            if name not in row:
                raise InvalidInput(f"{said}it has no {name!r}.", field=at, fix="Give every row every parameter.")
            where = f"{at}.{name}" if field == "rows" else at
            prefix = said and f"{label} {i + first}, column {name}: "
            _check_value(row[name], where, prefix)
            if _kind(row[name]) != _kind(rows[0][name]):
                raise _mixed(row[name], rows[0][name], where, prefix)


def _check_value(value: Value, field: str, said: str) -> None:
    if isinstance(value, str) and (len(value) > MAX_TEXT or "\0" in value):
        reason = f"{said}a text is longer than {MAX_TEXT:,} characters, or holds a NUL."
        raise InvalidInput(reason, field=field, fix="Put long texts into files.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{said}{value} is no finite number.", field=field, fix="Give a number.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise InvalidInput(f"{said}the number has more than 63 bits.", field=field, fix="Give it as a text.")


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a text" if isinstance(value, str) else "a number"


def _mixed(value: Value, before: Value, field: str, said: str) -> InvalidInput:
    reason = f"{said}{value!r} is {_kind(value)}, and {before!r} before it is {_kind(before)}."
    return InvalidInput(reason, field=field, fix="Give all values of a parameter the same kind.")
