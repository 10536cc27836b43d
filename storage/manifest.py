"""The manifest: the table of an attempt's outputs, whose create-only write makes them the attempt's result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from simyard.files import ManifestEntry
from storage.errors import AlreadyExists, ObjectNotFound, OutputDamaged
from storage.objects import ObjectStore
from storage.paths import Paths
from storage.retries import Retries

if TYPE_CHECKING:
    import pyarrow as pa

_VERSION = b"1"
_SHORT = 64
"""Most rows that are written as they are."""


def commit_manifest(
    store: ObjectStore,
    task: str,
    attempt: int,
    entries: Sequence[ManifestEntry],
    *,
    snapshot: int | None = None,
    retries: Retries | None = None,
) -> None:
    """Make the entries the result of the attempt, or one of its snapshots.

    Of several different commits exactly one succeeds, for ever.

    The same entries may be committed again: after a failure that left open whether the first write took place, this
    one succeeds.

    Raises:
        AlreadyExists: another commit won.
        StorageUnavailable: the storage failed more often than `retries` allows.
    """
    key, data = Paths.manifest(task, attempt, snapshot), _encode(task, attempt, entries)

    def commit() -> None:
        try:
            store.put(key, data, create=True)
        except AlreadyExists:
            if read_manifest(store, task, attempt, snapshot=snapshot) != list(entries):
                raise AlreadyExists(
                    f"Attempt {attempt} of {task} has a manifest already, with other entries."
                ) from None

    (retries or Retries()).run(commit)


def read_manifest(
    store: ObjectStore,
    task: str,
    attempt: int,
    *,
    snapshot: int | None = None,
    wanted: Callable[[str], bool] | None = None,
) -> list[ManifestEntry]:
    """Return the entries of an attempt, or of one of its snapshots, in the order in which they were stored.

    They are all or those whose path is wanted.

    Raises:
        ObjectNotFound: the attempt has no manifest, and so no result.
        OutputDamaged: the manifest cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = store.get(Paths.manifest(task, attempt, snapshot))
    except ObjectNotFound:
        raise ObjectNotFound(f"Attempt {attempt} of {task} has no stored outputs.") from None
    entries: list[ManifestEntry] = []
    try:
        # In batches, and built only where wanted: a manifest may have 100,000 rows.
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(4096, use_threads=False):
            paths = batch.column("path").to_pylist()
            rows = [i for i, path in enumerate(paths) if wanted is None or wanted(str(path))]
            chosen = batch if len(rows) == len(paths) else batch.take(pa.array(rows, pa.int64()))
            entries += [ManifestEntry.model_validate(row) for row in chosen.to_pylist()]
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise OutputDamaged(f"the manifest of attempt {attempt} of {task} cannot be read: {error}") from error
    return entries


def _encode(task: str, attempt: int, entries: Iterable[ManifestEntry]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(entries)
    schema = _schema().with_metadata(
        {b"simyard.manifest": _VERSION, b"simyard.task": task.encode(), b"simyard.attempt": str(attempt).encode()}
    )
    columns = [pa.array([getattr(row, name) for row in rows], schema.field(name).type) for name in schema.names]
    # A short table gets no smaller by compression, dictionaries or statistics, and they cost half of writing it.
    is_long = len(rows) > _SHORT
    compression: Literal["zstd", "none"] = "zstd" if is_long else "none"
    table = pa.Table.from_arrays(columns, schema=schema)
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression=compression, use_dictionary=is_long, write_statistics=is_long)
    return out.getvalue().to_pybytes()


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts, numbers = pa.string(), pa.int64()
    fields: list[pa.Field[Any]] = [
        pa.field("path", texts, nullable=False),
        pa.field("kind", texts, nullable=False),
        pa.field("size", numbers, nullable=False),
        pa.field("mtime_ns", numbers, nullable=False),
        pa.field("mode", pa.int32(), nullable=False),
        pa.field("link", texts),
        pa.field("sha256", texts),
        pa.field("object", texts),
        pa.field("offset", numbers, nullable=False),
        pa.field("length", numbers, nullable=False),
        pa.field("codec", texts, nullable=False),
    ]
    return pa.schema(fields)
