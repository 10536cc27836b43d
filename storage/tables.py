"""Tables that tasks' outputs hold, one Parquet object for each task, laid out as one dataset."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from storage.errors import ObjectNotFound, OutputDamaged
from storage.objects import ObjectStore
from storage.parallel import each
from storage.paths import Paths
from storage.retries import Retries

if TYPE_CHECKING:
    import pyarrow as pa

_TAIL = 16 * 1024
"""Bytes in which most descriptions of columns have room."""


def write_table(
    store: ObjectStore,
    name: str,
    table: pa.Table,
    *,
    simulator: str,
    project: str,
    task: str,
    retries: Retries | None = None,
) -> None:
    """Keep a task's rows of a table; rows of an earlier attempt are replaced."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    key, data = Paths.table(name, simulator, project, task), out.getvalue()
    (retries or Retries()).run(lambda: store.put(key, data))


def read_table(store: ObjectStore, name: str, *, simulator: str, project: str, task: str) -> pa.Table:
    """Return a task's rows of a table.

    Raises:
        ObjectNotFound: the task gave no such table.
        OutputDamaged: the table cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = read_table_bytes(store, name, simulator=simulator, project=project, task=task)
    try:
        # On this thread alone: Arrow's own let go of the bytes later, and a program that has ended by then aborts.
        with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            return file.read(use_threads=False)
    except pa.ArrowInvalid as error:
        raise OutputDamaged(f"the table {name} of {task} cannot be read: {error}") from error


def read_table_bytes(store: ObjectStore, name: str, *, simulator: str, project: str, task: str) -> bytes:
    """Return the same table as the Parquet file it is kept as.

    Raises:
        ObjectNotFound: the task gave no such table.
    """
    try:
        return store.get(Paths.table(name, simulator, project, task))
    except ObjectNotFound:
        raise ObjectNotFound(f"The task {task} gave no table {name}.") from None


def table_schema(store: ObjectStore, name: str, *, simulator: str, project: str, task: str) -> pa.Schema | None:
    """Return the columns of a task's table, of which only the end is read; None where there is no such table.

    Raises:
        OutputDamaged: the table cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    key = Paths.table(name, simulator, project, task)
    found = store.head(key)
    if found is None:
        return None
    # A Parquet file ends with its description, the description's length in four bytes, and four more.
    tail = store.get(key, max(0, found.size - _TAIL))
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < needed <= found.size:
        tail = store.get(key, found.size - needed)
    try:
        with pq.ParquetFile(pa.BufferReader(tail), pre_buffer=False) as file:
            return file.schema_arrow
    except pa.ArrowException as error:
        raise OutputDamaged(f"the table {name} of {task} cannot be read: {error}") from error


def list_tables(
    store: ObjectStore, names: Iterable[str], *, simulator: str, project: str, task: str
) -> tuple[str, ...]:
    """Return those of the names (the simulator's tables) of which the task has rows."""
    asked = tuple(names)
    heads = each(lambda name: store.head(Paths.table(name, simulator, project, task)), asked)
    return tuple(name for name, found in zip(asked, heads, strict=True) if found is not None)
