"""Tables as bytes on their way out: Parquet, CSV or JSON, made piece by piece."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1000
_GROUP_ROWS = 64 * 1024
_GROUP_BYTES = 32 * 1024 * 1024


class TableFormat(StrEnum):
    """How a table is sent."""

    PARQUET = "parquet"
    JSON = "json"
    CSV = "csv"


MEDIA_TYPES = {
    TableFormat.PARQUET: "application/vnd.apache.parquet",
    TableFormat.JSON: "application/json",
    TableFormat.CSV: "text/csv; charset=utf-8",
}


def encoded(form: TableFormat, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Give a table's bytes in pieces; no more of it is in memory than some batches."""
    match form:
        case TableFormat.PARQUET:
            return _as_parquet(schema, batches)
        case TableFormat.JSON:
            return _as_json(schema, batches)
        case TableFormat.CSV:
            return _as_csv(schema, batches)


def _as_json(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Give columns and rows in pieces of some rows; what JSON has no form for, such as times, becomes a text."""
    columns = [{"name": field.name, "type": str(field.type)} for field in schema]
    yield b'{"columns":' + json.dumps(columns).encode() + b',"rows":['
    separator = b""
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            rows = batch.slice(start, _ROWS).to_pylist()
            yield separator + b",".join(_row(row) for row in rows)
            separator = b","
    yield b"]}"


def _row(row: dict[str, object]) -> bytes:
    # JSON has no NaN or infinity; None says "no value" as well.
    plain = {name: None if isinstance(v, float) and (v != v or v in _INFINITE) else v for name, v in row.items()}
    return json.dumps(plain, ensure_ascii=False, default=str, allow_nan=False).encode()


_INFINITE = {float("inf"), float("-inf")}


def _as_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    from pyarrow import csv

    out = io.BytesIO()
    with csv.CSVWriter(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield _taken(out)
    if left := _taken(out):
        yield left


def _as_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Gather small batches into row groups, so that a table of thousands of tasks can be read fast."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = _Outbox()
    with pq.ParquetWriter(pa.PythonFile(out, mode="w"), schema, compression="zstd") as writer:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            if sum(b.num_rows for b in held) >= _GROUP_ROWS or sum(b.nbytes for b in held) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held = []
                yield out.take()
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
    yield out.take()


def _taken(out: io.BytesIO) -> bytes:
    data = out.getvalue()
    out.seek(0)
    out.truncate()
    return data


class _Outbox(io.RawIOBase):
    """A file that is read while it is written: it has a position, but only the newest bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position

    def write(self, data: object) -> int:
        """Take in more bytes."""
        piece = bytes(data)  # type: ignore[call-overload]
        self._held.append(piece)
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """Stay open: what the writer wrote last is still to be taken."""

    def take(self) -> bytes:
        """Return the bytes since the last time."""
        data = b"".join(self._held)
        self._held.clear()
        return data
