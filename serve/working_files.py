"""The folder of a task while it runs, and what the simulation has used; the stored ones after its end."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Iterable
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from serve.context import Context, HasContext
from serve.outputs import attempt_of, check_path, find_entry, read_outputs
from serve.ownership import OwnTask
from serve.problems import PROBLEMS
from serve.streams import attachment, json_answer, media_type_of, pieces
from simyard.errors import NotFound
from simyard.event import Sample
from simyard.files import EntryKind
from simyard.words import Word
from storage.reader import read_entry
from tasks.live import HolderGone
from tasks.record import TaskRecord

router = APIRouter(tags=["outputs"])
PIECE = 1024 * 1024


class WorkingFile(Word):
    """A file in the task's folder."""

    path: str
    size: int
    """Bytes."""
    mtime_ns: int
    """Last change in nanoseconds since 1970."""


class WorkingFiles(Word):
    """The files of a task: those in its folder while it runs, its outputs after its end."""

    live: bool
    files: tuple[WorkingFile, ...]


class Samples(Word):
    """What the simulation used, oldest first."""

    samples: tuple[Sample, ...]


@router.get(
    "/v1/tasks/{task}/files",
    summary="List the files of a running task",
    response_model=WorkingFiles,
    responses=PROBLEMS,
)
async def list_files(context: HasContext, record: OwnTask) -> Response:
    """Return what is in the task's folder now; after its end, its outputs."""
    if record.holder is not None:
        try:
            found = await context.live.list_files(record.holder, record.id, record.attempt)
        except HolderGone:
            record = await _after(context, record)
        else:
            files = tuple(WorkingFile(path=f.path, size=f.size, mtime_ns=f.mtime_ns) for f in found)
            return await to_thread.run_sync(json_answer, WorkingFiles(live=True, files=files))

    def stored() -> Response:
        try:
            entries = read_outputs(context.storage, record, attempt_of(record))
        except NotFound:
            entries = []
        made = (entry for entry in entries if entry.kind is EntryKind.OUTPUT)
        rows = (WorkingFile(path=entry.path, size=entry.size, mtime_ns=entry.mtime_ns) for entry in made)
        return json_answer(WorkingFiles(live=False, files=tuple(rows)))

    return await to_thread.run_sync(stored)


@router.get(
    "/v1/tasks/{task}/files/content",
    summary="Get a file of a running task",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def get_file(
    context: HasContext,
    record: OwnTask,
    path: Annotated[str, Query(examples=["results/step-0001.csv"])],
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int | None, Query(ge=0, le=2**62, description="Most bytes; by default all that are there")] = None,
) -> Response:
    """Return a file as it is at this moment, from a byte on; after the task's end, the stored one."""
    check_path(path)
    headers = attachment(posixpath.basename(path)) | {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    body: AsyncIterator[bytes] | None = None
    if record.holder is not None:
        try:
            first = await context.live.read_file(record.holder, record.id, record.attempt, path, offset, _piece(limit))
            body = _live(context, record, path, offset, limit, first)
        except HolderGone:
            record = await _after(context, record)
    if body is None:
        number = attempt_of(record)
        entry = await to_thread.run_sync(find_entry, context.storage, record.outputs_of, number, path)
        body = await pieces(lambda: read_entry(context.storage, record.outputs_of, number, entry, offset, limit))
    return StreamingResponse(body, headers=headers | {"Content-Type": media_type_of(path)})


@router.get("/v1/tasks/{task}/samples", summary="See what a task uses", response_model=Samples, responses=PROBLEMS)
async def list_samples(context: HasContext, record: OwnTask) -> Response:
    """Return the resources that the simulation used over time: CPU seconds, memory and disk."""
    if record.holder is not None:
        try:
            found = await context.live.samples(record.holder, record.id, record.attempt)
            return json_answer(Samples(samples=tuple(found)))
        except HolderGone:
            record = await _after(context, record)

    def stored() -> Response:
        try:
            number = attempt_of(record)
            entry = find_entry(context.storage, record.outputs_of, number, ".simyard/samples.jsonl")
        except NotFound:
            return json_answer(Samples(samples=()))
        text = b"".join(read_entry(context.storage, record.outputs_of, number, entry))
        return json_answer(Samples(samples=tuple(_samples(text.splitlines()))))

    return await to_thread.run_sync(stored)


async def _after(context: Context, record: TaskRecord) -> TaskRecord:
    """Return the record as it is now that nobody holds the attempt.

    Raises:
        HolderGone: the attempt goes on, in a process that cannot be asked at present.
    """
    now = await to_thread.run_sync(context.store.get, record.id)
    if now.holder is not None:
        raise HolderGone("The task's machine cannot be asked at present.", fix="Try again in a few seconds.")
    return now


def _piece(left: int | None) -> int:
    return PIECE if left is None else min(PIECE, left)


async def _live(
    context: Context, record: TaskRecord, path: str, offset: int, limit: int | None, first: bytes
) -> AsyncIterator[bytes]:
    """Give a file piece by piece; a short piece is the end, so that a file that grows does not go on for ever."""
    assert record.holder is not None
    piece = first
    while piece:
        asked = _piece(limit)
        yield piece
        offset += len(piece)
        limit = None if limit is None else limit - len(piece)
        if len(piece) < asked or limit == 0:
            return
        piece = await context.live.read_file(record.holder, record.id, record.attempt, path, offset, _piece(limit))


def _samples(lines: Iterable[bytes]) -> Iterable[Sample]:
    for line in lines:
        try:
            yield Sample.model_validate_json(line)
        except ValidationError:  # the last line of a supervisor that was killed
            continue
