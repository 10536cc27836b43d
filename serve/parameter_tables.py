"""Tables of parameters that came as files."""

from __future__ import annotations

import io
from typing import Any

from simyard.cases import MAX_CASES, MAX_COLUMNS, MAX_TEXT, check_name, check_table_size, read_csv
from simyard.errors import InvalidInput
from simyard.resources import MIB
from simyard.sweep import TableFile, TableForm
from simyard.task import Value
from storage.objects import ObjectStore
from storage.paths import Paths

_MAX_UNPACKED = 256 * MIB
_FIX = "Write it anew, for example with pyarrow or pandas."


def read_table_file(storage: ObjectStore, table: TableFile) -> list[dict[str, Value]]:
    """Return the rows of a table of parameters that is in the storage.

    Raises:
        InvalidInput: the file is too large, is not what its form says, or has a value that no case can have.
        ObjectNotFound: it is not there.
    """
    check_table_size(table.size)
    data = storage.get(Paths.input(table.sha256))
    if table.form is TableForm.CSV:
        return read_csv(data)
    return _read_parquet(data)


def _read_parquet(data: bytes) -> list[dict[str, Value]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(io.BytesIO(data), pre_buffer=False) as file:
            _check_shape(file)
            texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        # A text that comes many times is kept once, however often a hostile file says it.
        with pq.ParquetFile(io.BytesIO(data), pre_buffer=False, read_dictionary=texts) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"The table is no Parquet file: {error}.", field="table", fix=_FIX) from None
    columns = [_values(name, column) for name, column in zip(table.column_names, table.columns, strict=True)]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _check_shape(file: Any) -> None:
    metadata, names = file.metadata, file.schema_arrow.names
    if metadata.num_rows > MAX_CASES:
        reason = f"The table has {metadata.num_rows:,} rows; a sweep takes at most {MAX_CASES:,} cases."
        raise InvalidInput(reason, field="table", fix="Make several sweeps of it.")
    if metadata.num_rows == 0 or not names:
        raise InvalidInput("The table has no rows.", field="table", fix="Write a row for each case.")
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(f"The table has {len(names):,} columns; a sweep takes {MAX_COLUMNS}.", field="table")
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > _MAX_UNPACKED:
        raise InvalidInput(f"The table unpacks to {size:,} bytes.", field="table", fix="Leave out what is not used.")
    for i, name in enumerate(names):
        check_name(name, "table")
        if name in names[:i]:
            raise InvalidInput(f"the column {name!r} comes twice.", field="table", fix="Rename or remove one.")


def _values(name: str, column: Any) -> list[Value]:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_decimal(kind):
        column, kind = column.cast(pa.float64()), pa.float64()
    for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string):
        if test(kind):
            break
    else:
        reason = f"the column {name!r} has the type {kind}."
        raise InvalidInput(reason, field="table", fix="Give numbers, texts or booleans.")
    for chunk in column.chunks:
        if isinstance(chunk, pa.DictionaryArray) and any(len(str(text)) > MAX_TEXT for text in chunk.dictionary):
            reason = f"the column {name!r} has a text of more than {MAX_TEXT:,} characters."
            raise InvalidInput(reason, field="table", fix="Put long texts into files.")
    values = column.to_pylist()
    if None in values:
        reason = f"row {values.index(None) + 1}, column {name}: there is no value."
        raise InvalidInput(reason, field="table", fix="Fill it, or leave out the row.")
    return list(values)
