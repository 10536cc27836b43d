"""One result table of a whole sweep: the rows of all its tasks, beside the parameters of their cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from serve.context import Context, HasContext
from serve.ownership import OwnSweep
from serve.problems import PROBLEMS
from serve.streams import attachment, pieces
from serve.table_formats import MEDIA_TYPES, TableFormat, encoded
from simulators import catalogue
from simulators.suggestion import suggest
from simyard.errors import NotFound
from simyard.status import Status
from simyard.task import Case, Value
from storage.errors import OutputDamaged
from storage.parallel import each
from storage.tables import read_table_bytes, table_schema
from tasks.record import SweepRecord, TaskQuery

if TYPE_CHECKING:
    import pyarrow as pa

router = APIRouter(tags=["sweeps"])
_PAGE = 500
_BATCH = 64 * 1024


@dataclass(frozen=True)
class _Part:
    """The table of one task of the sweep."""

    task: str
    case: Case
    outputs_of: str


@router.get(
    "/v1/sweeps/{sweep}/tables/{name}",
    summary="Get a table of a sweep",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {
            "content": {
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "columns": [{"name": "task", "type": "string"}, {"name": "case", "type": "int64"}],
                        "rows": [{"task": "t3k9x0m2v7q4a", "case": 1, "roughness": 0.011, "peak_flow": 778.7}],
                    },
                },
                "text/csv": {"schema": {"type": "string"}, "example": '"task","case"\n"t3k9x0m2v7q4a",1\n'},
            }
        },
    },
)
async def get_sweep_table(
    context: HasContext,
    record: OwnSweep,
    name: Annotated[str, Path(description="A table of the simulator", examples=["summary"])],
    format: Annotated[TableFormat, Query()] = TableFormat.PARQUET,  # noqa: A002 - the word that users know
) -> Response:
    """Return the rows of all tasks that have succeeded, joined with `task`, `case` and the parameters.

    They stand in the order of the cases. A parameter whose name the table has too is called `parameter_NAME`. The
    headers `Simyard-Cases` and `Simyard-Cases-With-Rows` say how many cases there are, and how many gave rows.
    """
    joined = await to_thread.run_sync(_Joined, context, record, name)
    body = await pieces(lambda: encoded(format, joined.schema, joined.batches()))
    headers = {
        **attachment(f"{record.id}-{name}.{format.value}"),
        "Simyard-Cases": str(record.cases),
        "Simyard-Cases-With-Rows": str(len(joined.parts)),
    }
    return StreamingResponse(body, media_type=MEDIA_TYPES[format], headers=headers)


class _Joined:
    """The tables of a sweep's tasks as one, read task by task."""

    def __init__(self, context: Context, record: SweepRecord, name: str) -> None:
        """Find the tables and their columns; their rows are read later.

        Raises:
            NotFound: the simulator has no such table, or no task has one yet.
            OutputDamaged: a table cannot be read, or its columns do not go together with the others'.
        """
        self._storage = context.storage
        self._name = name
        self._record = record
        known = catalogue.find(record.draft.simulator).tables
        if name not in known:
            reason = f"{record.draft.simulator} gives no table {name[:100]!r}."
            raise NotFound(reason, field="name", fix=suggest(name[:100], known, "tables"))
        parts = self._succeeded(context)
        schemas = list(each(self._schema_of, parts, threads=16))
        found = [schema for schema in schemas if schema is not None]
        self.parts = [part for part, schema in zip(parts, schemas, strict=True) if schema is not None]
        if not found:
            reason = f"No task of this sweep has given rows of {name} yet."
            raise NotFound(reason, field="name", fix="Wait until some have succeeded.")
        self._result = _unified(found, name)
        self._own = _own_columns(record.draft.columns, [part.case for part in self.parts], self._result.names)
        self.schema = self._together()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows, task by task."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for part, data in zip(self.parts, each(self._bytes_of, self.parts), strict=True):
            # On this thread alone: Arrow's own let go of the bytes later, and a program that has ended by then aborts.
            with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
                for batch in file.iter_batches(_BATCH, use_threads=False):
                    yield self._with_case(batch, part)

    def _with_case(self, batch: pa.RecordBatch, part: _Part) -> pa.RecordBatch:
        import pyarrow as pa

        count = batch.num_rows
        values: Mapping[str, Value] = {**part.case.values, "task": part.task, "case": part.case.number}
        columns: list[Any] = [
            pa.repeat(pa.scalar(values[name], type=field.type), count) for name, field in self._own.items()
        ]
        for field in self._result:
            i = batch.schema.get_field_index(field.name)
            columns.append(pa.nulls(count, field.type) if i < 0 else batch.column(i).cast(field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _succeeded(self, context: Context) -> list[_Part]:
        found: list[_Part] = []
        before: int | None = None
        query = TaskQuery(sweep=self._record.id, status=Status.SUCCEEDED, limit=_PAGE)
        while page := context.store.list(replace(query, before=before)):
            found += [_Part(one.id, one.task.case, one.outputs_of) for one in page if one.task.case is not None]
            before = page[-1].seq
        return sorted(found, key=lambda part: part.case.number)

    def _place(self, part: _Part) -> dict[str, str]:
        draft = self._record.draft
        return {"simulator": draft.simulator, "project": draft.project, "task": part.outputs_of}

    def _schema_of(self, part: _Part) -> pa.Schema | None:
        return table_schema(self._storage, self._name, **self._place(part))

    def _bytes_of(self, part: _Part) -> bytes:
        return read_table_bytes(self._storage, self._name, **self._place(part))

    def _together(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([*self._own.values(), *self._result])


def _unified(schemas: Sequence[pa.Schema], name: str) -> pa.Schema:
    import pyarrow as pa

    distinct = list({schema.to_string(): schema.remove_metadata() for schema in schemas}.values())
    try:
        return pa.unify_schemas(distinct, promote_options="permissive")
    except pa.ArrowException as error:
        raise OutputDamaged(f"the tables {name} of this sweep do not go together: {error}") from error


def _own_columns(columns: Sequence[str], cases: Sequence[Case], taken: Sequence[str]) -> dict[str, pa.Field[Any]]:
    """Return the columns beside the result's, by what they hold; those whose name is taken step aside."""
    import pyarrow as pa

    kinds: dict[str, pa.DataType] = {"task": pa.string(), "case": pa.int64()}
    for column in columns:
        kinds[column] = _type_of([case.values[column] for case in cases])
    found: dict[str, pa.Field[Any]] = {}
    names = set(taken)
    for column, kind in kinds.items():
        name = column
        while name in names:
            name = f"parameter_{name}"
        names.add(name)
        found[column] = pa.field(name, kind)
    return found


def _type_of(values: Sequence[Value]) -> pa.DataType:
    import pyarrow as pa

    if isinstance(values[0], bool):
        return pa.bool_()
    if isinstance(values[0], str):
        return pa.string()
    return pa.float64() if any(isinstance(value, float) for value in values) else pa.int64()
