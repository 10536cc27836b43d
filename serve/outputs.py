"""The stored outputs of a task: their list, one of them, or many as a zip."""

from __future__ import annotations

import posixpath
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from serve.context import Context, HasContext
from serve.ownership import OwnTask
from serve.problems import PROBLEMS
from serve.retention import remove_outputs
from serve.signed_urls import sign
from serve.streams import attachment, json_answer, media_type_of, pieces, range_answer
from simyard.errors import InvalidInput, NotFound
from simyard.files import ManifestEntry, check_relative, matches
from simyard.task import Task
from simyard.words import Word
from storage.manifest import read_manifest
from storage.objects import ObjectStore
from storage.paths import Paths
from storage.reader import read_entry, zip_entries
from tasks.record import TaskRecord

router = APIRouter(tags=["outputs"])
OWN_FOLDER = ".simyard/"
_MAX_LINKS = 40

Glob = Annotated[
    str | None,
    Query(max_length=4096, description="`*` and `?` stay in one folder, `**` crosses them", examples=["**/*.csv"]),
]
Number = Annotated[int | None, Query(ge=1, le=2**31, description="An attempt; by default the one with the result")]


class StoredObject(Word):
    """An object that holds bytes of outputs."""

    url: str
    """Signed, takes `Range`; relative to the server's address, or absolute where the storage itself serves it."""
    size: int
    """Bytes."""


class Outputs(Word):
    """The outputs that an attempt stored, and where their bytes are."""

    attempt: int
    entries: tuple[ManifestEntry, ...]
    objects: dict[str, StoredObject]
    """By the name that the entries use."""


@router.delete("/v1/tasks/{task}/outputs", summary="Remove outputs", response_model=Task, responses=PROBLEMS)
async def delete_outputs(context: HasContext, record: OwnTask) -> Response:
    """Remove the outputs and logs of a task that has ended, for ever; the task and its rows of tables stay."""

    def remove() -> Response:
        return json_answer(remove_outputs(context.store, context.storage, record, context.clock())[0].task)

    return await to_thread.run_sync(remove)


@router.get("/v1/tasks/{task}/outputs", summary="List outputs", response_model=Outputs, responses=PROBLEMS)
async def list_outputs(context: HasContext, record: OwnTask, glob: Glob = None, attempt: Number = None) -> Response:
    """Return the rows of the manifest that fit the glob, and signed URLs of the objects that hold their bytes.

    An entry's bytes are `length` bytes from `offset` of its object, stored or as a raw deflate stream.
    """

    def look() -> Response:
        number = attempt_of(record, attempt)
        chosen = tuple(read_outputs(context.storage, record, number, glob))
        objects = _objects(context, record.outputs_of, number, {entry.object for entry in chosen if entry.object})
        return json_answer(Outputs(attempt=number, entries=chosen, objects=objects))

    return await to_thread.run_sync(look)


@router.get(
    "/v1/tasks/{task}/outputs/content",
    summary="Get one output",
    response_class=Response,
    responses={**PROBLEMS, 206: {"description": "The part that `Range` asked for."}},
)
async def get_output(
    context: HasContext,
    record: OwnTask,
    path: Annotated[str, Query(description="The path in the list of outputs", examples=["town.out"])],
    attempt: Number = None,
    byte_range: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """Return the bytes of one output file or log; a link to another output gives that one."""

    def look() -> tuple[int, ManifestEntry]:
        check_path(path)
        number = attempt_of(record, attempt)
        return number, _followed(context.storage, record.outputs_of, number, path)

    number, entry = await to_thread.run_sync(look)
    return await range_answer(
        byte_range,
        entry.size,
        lambda start, length: read_entry(context.storage, record.outputs_of, number, entry, start, length),
        media_type=media_type_of(path),
        headers=attachment(posixpath.basename(path)),
    )


@router.get(
    "/v1/tasks/{task}/outputs:download",
    summary="Download outputs as a zip",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def download_outputs(
    context: HasContext, record: OwnTask, glob: Glob = None, attempt: Number = None
) -> StreamingResponse:
    """Return the outputs that fit the glob, all of them without one, as one zip that is made while it is sent."""

    def choose() -> tuple[int, list[ManifestEntry]]:
        number = attempt_of(record, attempt)
        chosen = read_outputs(context.storage, record, number, glob)
        if glob is not None and not chosen:
            raise NotFound(f"No output matches {glob!r}.", field="glob", fix="GET …/outputs lists all of them.")
        return number, chosen

    number, chosen = await to_thread.run_sync(choose)
    body = await pieces(lambda: zip_entries(context.storage, record.outputs_of, number, chosen))
    headers = attachment(f"{record.id}.zip") | {"X-Content-Type-Options": "nosniff"}
    return StreamingResponse(body, media_type="application/zip", headers=headers)


def attempt_of(record: TaskRecord, attempt: int | None = None) -> int:
    """Return the attempt whose outputs are meant: the given one, the task's result, or else the newest.

    Raises:
        NotFound: the task has had no attempt, or its outputs have been removed.
    """
    check_kept(record)
    number = attempt or record.task.result or record.attempt
    if not number:
        raise NotFound("The task has stored no outputs.", fix=_why(record))
    return number


def check_kept(record: TaskRecord) -> None:
    """Return where the outputs and logs of a task have not been removed.

    Raises:
        NotFound: they have.
    """
    if (removed := record.task.outputs_removed_at) is not None:
        fix = "Its tables are still there; submit the task again for the outputs."
        raise NotFound(f"The outputs were removed at {removed:%Y-%m-%d %H:%M:%S} UTC.", fix=fix)


def read_outputs(
    storage: ObjectStore, record: TaskRecord, attempt: int, glob: str | None = None
) -> list[ManifestEntry]:
    """Return the rows of an attempt's manifest that fit a glob; blocks.

    Raises:
        NotFound: the attempt has stored no outputs.
    """
    wanted = None if glob is None else partial(matches, pattern=glob)
    try:
        return read_manifest(storage, record.outputs_of, attempt, wanted=wanted)
    except NotFound:
        raise NotFound(f"Attempt {attempt} has stored no outputs.", field="attempt", fix=_why(record)) from None


def find_entry(storage: ObjectStore, task: str, attempt: int, path: str) -> ManifestEntry:
    """Return the row of one file; blocks.

    Raises:
        NotFound: the attempt has stored no such file.
    """
    for entry in read_manifest(storage, task, attempt, wanted=lambda found: found == path):
        return entry
    raise NotFound(f"There is no output {path[:200]!r}.", field="path", fix="GET …/outputs lists all of them.")


def _why(record: TaskRecord) -> str:
    if record.status.is_end:
        return "GET …/explain says why."
    return "They are there when the task has ended; GET …/files shows the folder of a running one."


def check_path(path: str) -> str:
    """Return a path that stays in the task's folder; the logs' own folder is allowed.

    Raises:
        InvalidInput: it is empty, absolute, or leaves the folder.
    """
    try:
        check_relative(path.removeprefix(OWN_FOLDER))
    except ValueError as error:
        raise InvalidInput(f"{error}.", field="path", fix="Give a path as the list of files has it.") from None
    return path


def _followed(storage: ObjectStore, task: str, attempt: int, path: str) -> ManifestEntry:
    """Return the file of a path, through links that lead to other outputs."""
    entry, where = find_entry(storage, task, attempt, path), path
    for _ in range(_MAX_LINKS):
        if entry.link is None:
            return entry
        where = posixpath.normpath(posixpath.join(posixpath.dirname(where), entry.link))
        try:
            entry = find_entry(storage, task, attempt, where)
        except NotFound:
            break
    reason = f"{path[:200]!r} is a link that leads to no stored output."
    raise NotFound(reason, field="path", fix="GET …/outputs lists all of them.")


def _objects(context: Context, task: str, attempt: int, names: set[str]) -> dict[str, StoredObject]:
    prefix = Paths.attempt(task, attempt)
    keys = {Paths.below(task, attempt, name): name for name in names}
    found = {}
    for info in context.storage.list(prefix):
        if name := keys.get(info.key):
            url = context.storage.sign_get(info.key, context.url_seconds)
            found[name] = StoredObject(url=url or sign(context, "GET", f"/v1/objects/{info.key}"), size=info.size)
    return found
