"""Submitting many tasks in one request, as a JSON object or as JSON lines; each has a result of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, ValidationError
from pydantic_core import from_json, to_json
from starlette.background import BackgroundTask

from serve.admission import Wanted, admit
from serve.auth import User
from serve.bodies import documented, parse, read_json
from serve.context import Context, HasContext
from serve.examples import BATCH
from serve.items import BatchItem, Items
from serve.machines import GroupMemory, memory_of
from serve.problems import PROBLEMS, invalid
from simyard.errors import Conflict, InvalidInput, SimyardError
from simyard.group import MachineGroup
from simyard.problem import Problem, problem_of
from simyard.task import Task
from simyard.words import Word
from tasks.record import Draft, Submission

MAX_BATCH = 10_000
LINES = "application/x-ndjson"
_LINE_TYPES = frozenset({LINES, "application/ndjson", "application/jsonl", "application/x-jsonlines"})

router = APIRouter(tags=["tasks"])


class Batch(Word):
    """Many tasks in one request."""

    tasks: tuple[BatchItem, ...] = Field(min_length=1, max_length=MAX_BATCH)
    atomic: bool = False
    """Accept all or none."""


class LooseBatch(Word):
    """A batch whose tasks have not been looked at, so that a bad one does not take the others with it."""

    tasks: tuple[Any, ...] = Field(min_length=1, max_length=MAX_BATCH)
    atomic: bool = False


class BatchResult(Word):
    """What became of one task of a batch: a task, or a problem."""

    row: int
    """Which one of the request it is, counted from 1; blank lines do not count."""
    task: Task | None = None
    created: bool = False
    """False where the same request had been accepted before, and where it was refused."""
    problem: Problem | None = None


class BatchResults(Word):
    """What became of the tasks of a batch, in their order."""

    results: tuple[BatchResult, ...]


_DOCUMENTED = documented(Batch, two_tasks=BATCH)
_DOCUMENTED["requestBody"]["content"][LINES] = {"schema": {"$ref": "#/components/schemas/BatchItem"}}


@router.post(
    "/v1/tasks:batch",
    summary="Submit many tasks",
    response_model=BatchResults,
    responses={
        **PROBLEMS,
        200: {"content": {LINES: {"schema": {"$ref": "#/components/schemas/BatchResult"}}}},
        413: {"description": "The body is too large, as it is or once it is decoded."},
    },
    openapi_extra=_DOCUMENTED,
)
async def submit_batch(
    request: Request,
    context: HasContext,
    user: User,
    groups: Annotated[GroupMemory, Depends(memory_of)],
    *,
    atomic: Annotated[bool, Query(description="Accept all or none; in a JSON object the field of this name.")] = False,
) -> Response:
    """Submit up to 10,000 tasks; each is accepted or refused by itself, unless `atomic` asks for all or none.

    The body is a JSON object, or with `Content-Type: application/x-ndjson` one task a line; `Content-Encoding` may be
    gzip or zstd. The results stand in the order of the request, as lines where `Accept` asks for them. A refused task
    has a problem, whose field counts from its spec.
    """
    lines = _type_of(request.headers.get("content-type", "")) in _LINE_TYPES
    # The body is not kept here: once it is parsed nobody holds it any more.
    items, whole = await to_thread.run_sync(_parse_lines if lines else _parse_object, await read_json(request))
    known = await groups.recent()
    as_lines = _type_of(request.headers.get("accept", "").split(",")[0]) in _LINE_TYPES
    return await to_thread.run_sync(_answer, context, user, items, atomic or whole, known, as_lines)


def _type_of(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _parse_object(body: bytes | bytearray) -> tuple[list[Wanted | SimyardError], bool]:
    """Return what a JSON object asks for, and whether it is all or none.

    Raises:
        InvalidInput: it is no batch at all.
    """
    batch, items = parse(LooseBatch, body), Items()
    return [_read(items, item) for item in batch.tasks], batch.atomic


def _read(items: Items, item: object, line: bytes = b"") -> Wanted | SimyardError:
    """Return what an item asks for, or why it is refused; `line` is the item in JSON, where that is at hand."""
    # It is read as JSON in any case: then a refusal speaks of objects and arrays, and not of Python's types.
    try:
        return items.wanted(item, lambda: BatchItem.model_validate_json(line or to_json(item)))
    except ValidationError as error:
        return invalid(error.errors(include_url=False), BatchItem, line or to_json(item), below="spec", what="line")


def _parse_lines(body: bytes | bytearray) -> tuple[list[Wanted | SimyardError], bool]:
    """Return what JSON lines ask for; blank ones are skipped.

    Raises:
        InvalidInput: there are no lines, or too many.
    """
    found: list[Wanted | SimyardError] = []
    items = Items()
    for line in _lines(body):
        if len(found) == MAX_BATCH:
            reason = f"there are more than {MAX_BATCH} lines, the most tasks of one batch."
            raise InvalidInput(reason, field="tasks", fix="Send the rest in another request.")
        found.append(_read(items, _document(line), line))
    if not found:
        raise InvalidInput("there is no line.", field="tasks", fix='Send one {"spec": {...}} a line.')
    return found, False


def _lines(body: bytes | bytearray) -> Iterator[bytes]:
    """Give the lines of a body that are not blank, one after the other, so that they are not all held beside it."""
    return filter(None, map(bytes.strip, BytesIO(body)))


def _document(line: bytes) -> object:
    """Return what a line says; None where it is no JSON, which is found again by whoever reads it whole."""
    try:
        return from_json(line)
    except ValueError:
        return None


def _answer(
    context: Context,
    user: str,
    items: Sequence[Wanted | SimyardError],
    atomic: bool,
    groups: tuple[MachineGroup, ...] | None,
    as_lines: bool,
) -> Response:
    results = _submit(context, user, items, atomic, groups)
    answer = _response(results, as_lines)
    if any(isinstance(one, Submission) and one.created for one in results):
        answer.background = BackgroundTask(context.waker.wake)
    return answer


def _response(results: Sequence[Submission | SimyardError], as_lines: bool) -> Response:
    texts = map(_text, range(1, len(results) + 1), results)
    if as_lines:
        return Response("".join([f"{text}\n" for text in texts]), media_type=LINES)
    return Response('{"results":[' + ",".join(texts) + "]}", media_type="application/json")


def _text(row: int, result: Submission | SimyardError) -> str:
    """Return a BatchResult in JSON, of ten thousand of which no model is made."""
    if isinstance(result, SimyardError):
        return BatchResult(row=row, problem=problem_of(result)).model_dump_json()
    created = "true" if result.created else "false"
    return f'{{"row":{row},"task":{result.text},"created":{created},"problem":null}}'


def _submit(
    context: Context,
    user: str,
    items: Sequence[Wanted | SimyardError],
    atomic: bool,
    groups: tuple[MachineGroup, ...] | None,
) -> list[Submission | SimyardError]:
    good = {i: one for i, one in enumerate(items) if isinstance(one, Wanted)}
    admitted = dict(zip(good, admit(list(good.values()), user, groups, context.storage, context.store), strict=True))
    refused: dict[int, SimyardError] = {i: one for i, one in enumerate(items) if isinstance(one, SimyardError)}
    refused |= {i: one for i, one in admitted.items() if isinstance(one, SimyardError)}
    drafts = {i: one for i, one in admitted.items() if isinstance(one, Draft)}
    twice = _doubles(drafts)
    refused |= twice
    drafts = {i: draft for i, draft in drafts.items() if i not in twice}
    results: dict[int, Submission | SimyardError] = {**refused}
    if atomic and refused:
        results |= {i: _held_back() for i in drafts}
    elif drafts:
        submissions = context.store.submit(list(drafts.values()), context.clock(), atomic=atomic)
        results |= {i: one.error or one for i, one in zip(drafts, submissions, strict=True)}
    return [results[i] for i in range(len(items))]


def _doubles(drafts: Mapping[int, Draft]) -> dict[int, SimyardError]:
    """Return why those are refused that have an earlier one's idempotency key for another request."""
    first: dict[str, int] = {}
    found: dict[int, SimyardError] = {}
    for i, draft in drafts.items():
        if draft.key is None or drafts[first.setdefault(draft.key, i)].digest == draft.digest:
            continue
        found[i] = Conflict(
            f"Row {i + 1} has the idempotency key {draft.key!r} of row {first[draft.key] + 1}, which asks for another "
            "task.",
            field="idempotency_key",
            fix="Give each task a key of its own.",
        )
    return found


def _held_back() -> Conflict:
    return Conflict(
        "It was not submitted, because another task of this atomic batch was refused.",
        fix="Mend the refused ones and send the batch again.",
    )
