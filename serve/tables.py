"""The tables that a task's outputs gave."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from serve.context import Context, HasContext
from serve.ownership import OwnTask
from serve.problems import PROBLEMS
from serve.streams import attachment, json_answer, pieces
from serve.table_formats import MEDIA_TYPES, TableFormat, encoded
from simulators import catalogue
from simyard.errors import NotFound
from simyard.words import Word
from storage.errors import InvalidKey
from storage.paths import Paths
from storage.tables import list_tables, read_table
from tasks.record import TaskRecord

router = APIRouter(tags=["outputs"])


class TableInfo(Word):
    """A table that a task has."""

    name: str
    description: str


class Tables(Word):
    """The tables that a task has."""

    tables: tuple[TableInfo, ...]


@router.get("/v1/tasks/{task}/tables", summary="List tables", response_model=Tables, responses=PROBLEMS)
async def list_task_tables(context: HasContext, record: OwnTask) -> Response:
    """Return the tables that the task's outputs gave, each with a sentence."""

    def look() -> Response:
        described = {name: table.description for name, table in catalogue.find(record.task.simulator).tables.items()}
        found = list_tables(
            context.storage,
            described,
            simulator=record.task.simulator,
            project=record.task.project,
            task=record.outputs_of,
        )
        return json_answer(Tables(tables=tuple(TableInfo(name=name, description=described[name]) for name in found)))

    return await to_thread.run_sync(look)


@router.get(
    "/v1/tasks/{task}/tables/{name}",
    summary="Get a table",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {
            "content": {
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {"columns": [{"name": "flow", "type": "double"}], "rows": [{"flow": 1.5}]},
                },
                "text/csv": {"schema": {"type": "string"}, "example": '"flow"\n1.5\n'},
            }
        },
    },
)
async def get_table(
    context: HasContext,
    record: OwnTask,
    name: Annotated[str, Path(description="As the list of tables has it", examples=["summary"])],
    format: Annotated[TableFormat, Query()] = TableFormat.PARQUET,  # noqa: A002 - the word that users know
) -> Response:
    """Return one table, as a Parquet file, as CSV, or as JSON with its columns and its rows."""
    key = await to_thread.run_sync(_key, context, record, name)
    if format is TableFormat.PARQUET:
        body = await pieces(lambda: context.storage.stream(key))
        headers = attachment(f"{record.id}-{name}.parquet")
        return StreamingResponse(body, media_type=MEDIA_TYPES[format], headers=headers)
    table = await to_thread.run_sync(
        lambda: read_table(
            context.storage, name, simulator=record.task.simulator, project=record.task.project, task=record.outputs_of
        )
    )
    body = await pieces(lambda: encoded(format, table.schema, table.to_batches()))
    return StreamingResponse(body, media_type=MEDIA_TYPES[format])


def _key(context: Context, record: TaskRecord, name: str) -> str:
    missing = NotFound(f"The task has no table {name[:100]!r}.", field="name", fix="GET …/tables lists them.")
    try:
        key = Paths.table(name, record.task.simulator, record.task.project, record.outputs_of)
        if context.storage.head(key) is None:
            raise missing
    except InvalidKey:
        raise missing from None
    return key
