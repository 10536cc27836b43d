"""Tables of parameters as a user has them: rows, a file, or an Arrow table or data frame."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simyard.cases import cases_of, check_table_size, read_csv
from simyard.errors import InvalidInput, NotInstalled, UnreadableInput
from simyard.folder import HashedFile, hash_files, scan_file, show
from simyard.sweep import TableFile, TableForm
from simyard.task import Value

Grid = Mapping[str, Iterable[Value]]
Table = str | os.PathLike[str] | Sequence[Mapping[str, Value]] | Any
"""A path of a `.csv` or `.parquet` file, rows, or what has Arrow's C stream: pyarrow, pandas, polars."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The parameters of a sweep as they are sent."""

    grid: dict[str, tuple[Value, ...]]
    rows: tuple[dict[str, Value], ...] = ()
    file: HashedFile | None = None
    table: TableFile | None = None


@contextmanager
def gathered(grid: Grid | None, table: Table | None) -> Iterator[Parameters]:
    """Give the parameters, checked as far as they are known here; a file that had to be made is there meanwhile.

    Raises:
        InvalidInput: a name, a value, or the number of cases is not valid.
        NotInstalled: the table needs pyarrow.
    """
    points = {name: _values(values, f"grid.{name}") for name, values in (grid or {}).items()}
    if table is None or (isinstance(table, Sequence) and not isinstance(table, str)):
        given: Sequence[Any] = table or ()
        rows = [{name: _plain(value) for name, value in row.items()} for row in given]
        cases_of(rows, points)
        yield Parameters(grid=points, rows=tuple(rows))
    elif isinstance(table, str | os.PathLike):
        yield _from_file(Path(table), points)
    else:
        with tempfile.TemporaryDirectory(prefix="simyard-") as folder:
            path = Path(folder) / "table.parquet"
            _write(table, path)
            yield _from_file(path, points)


def _from_file(path: Path, grid: dict[str, tuple[Value, ...]]) -> Parameters:
    try:
        form = TableForm(path.suffix.lower().removeprefix("."))
    except ValueError:
        fix = "Give a .csv or a .parquet file."
        raise InvalidInput(f"{show(path)} is no table that can be read.", field="table", fix=fix) from None
    local = scan_file(path)
    check_table_size(local.size)
    if form is TableForm.CSV:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnreadableInput(f"{show(path)} cannot be read: {error.strerror}.", field="table") from error
        cases_of(read_csv(data), grid, field="table", label="data row")
    elif grid:
        cases_of((), grid)
    [hashed] = hash_files([local])
    return Parameters(grid=grid, file=hashed, table=TableFile(sha256=hashed.sha256, size=local.size, form=form))


def _write(table: Any, path: Path) -> None:
    if not hasattr(table, "__arrow_c_stream__"):
        fix = "Give a path, a list of rows, or an Arrow table or data frame."
        raise InvalidInput(f"A {type(table).__name__} is no table of parameters.", field="table", fix=fix)
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise NotInstalled("Tables need pyarrow.", fix="pip install 'simyard[arrow]'") from error
    parquet.write_table(pa.table(table), path)


def _values(values: Iterable[Value], field: str) -> tuple[Value, ...]:
    if isinstance(values, str):
        fix = f"Give a list, such as [{values!r}]."
        raise InvalidInput("A text is no list of values.", field=field, fix=fix)
    try:
        return tuple(_plain(value) for value in values)
    except TypeError:
        raise InvalidInput(f"{values!r} is no list of values.", field=field, fix="Give a list.") from None


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python's."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value
