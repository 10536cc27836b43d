"""Submitting tasks, one or many; the answer comes when the store has them on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Response
from pydantic import Field, ValidationError
from starlette.background import BackgroundTask

from serve.admission import Wanted, admit
from serve.auth import User
from serve.bodies import documented, json_body
from serve.context import Context, HasContext
from serve.examples import BATCH, SWMM_TASK
from serve.machines import GroupMemory, memory_of
from serve.problems import PROBLEMS, invalid_value
from serve.streams import json_answer
from simyard.errors import Conflict, SimyardError
from simyard.group import MachineGroup
from simyard.problem import Problem, problem_of
from simyard.task import Task, TaskSpec
from simyard.words import Word
from tasks.record import Draft

MAX_BATCH = 1000
_KEY = r"^[!-~]{1,200}$"

router = APIRouter(tags=["tasks"])

RequestKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=_KEY,
        description="1 to 200 visible characters; the same key again gives the same task.",
    ),
]
"""A parameter that receives the idempotency key of the request's header."""


class BatchItem(Word):
    """One task of a batch."""

    spec: TaskSpec
    idempotency_key: str | None = Field(default=None, pattern=_KEY)
    """Sending the same key with the same request again gives the same task."""


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

    task: Task | None = None
    created: bool = False
    """False where the same request had been accepted before, and where it was refused."""
    problem: Problem | None = None


class BatchResults(Word):
    """What became of the tasks of a batch, in their order."""

    results: tuple[BatchResult, ...]


@router.post(
    "/v1/tasks",
    summary="Submit a task",
    response_model=Task,
    status_code=201,
    responses={
        **PROBLEMS,
        200: {"description": "The same request was accepted before: this is its task.", "model": Task},
        409: {"description": "The idempotency key was used for another request."},
        413: {"description": "The body is too large."},
    },
    openapi_extra=documented(TaskSpec, swmm=SWMM_TASK),
)
async def submit(
    context: HasContext,
    user: User,
    groups: Annotated[GroupMemory, Depends(memory_of)],
    spec: Annotated[TaskSpec, Depends(json_body(TaskSpec))],
    idempotency_key: RequestKey = None,
) -> Response:
    """Check the task, store it durably and answer with it; its input files must have been uploaded before.

    Simulator, parameters, group, resources and input files are checked before anything is stored.
    """
    known = await groups.recent()
    result = await to_thread.run_sync(_submit_one, context, user, Wanted(spec=spec, key=idempotency_key), known)
    assert result.task is not None
    headers = {"Location": f"/v1/tasks/{result.task.id}"}
    answer = json_answer(result.task, 201 if result.created else 200, headers)
    answer.background = BackgroundTask(context.waker.wake)
    return answer


@router.post(
    "/v1/tasks:batch",
    summary="Submit many tasks",
    response_model=BatchResults,
    responses={**PROBLEMS, 413: {"description": "The body is too large."}},
    openapi_extra=documented(Batch, two_tasks=BATCH),
)
async def submit_batch(
    context: HasContext,
    user: User,
    groups: Annotated[GroupMemory, Depends(memory_of)],
    batch: Annotated[LooseBatch, Depends(json_body(LooseBatch))],
) -> Response:
    """Submit up to 1000 tasks; each is accepted or refused by itself, unless `atomic` asks for all or none.

    The results stand in the order of the request. A refused task has a problem, whose field counts from its spec.
    """
    known = await groups.recent()
    results = await to_thread.run_sync(_submit_many, context, user, batch, known)
    answer = await to_thread.run_sync(json_answer, results)
    answer.background = BackgroundTask(context.waker.wake)
    return answer


def _submit_one(context: Context, user: str, wanted: Wanted, groups: tuple[MachineGroup, ...] | None) -> BatchResult:
    [draft] = admit([wanted], user, groups, context.storage)
    if isinstance(draft, SimyardError):
        raise draft
    [submission] = context.store.submit([draft], context.clock())
    if submission.error is not None:
        raise submission.error
    assert submission.record is not None
    return BatchResult(task=submission.record.task, created=submission.created)


def _submit_many(
    context: Context, user: str, batch: LooseBatch, groups: tuple[MachineGroup, ...] | None
) -> BatchResults:
    parsed = [_wanted(item) for item in batch.tasks]
    good = {i: one for i, one in enumerate(parsed) if isinstance(one, Wanted)}
    admitted = dict(zip(good, admit(list(good.values()), user, groups, context.storage), strict=True))
    outcomes: dict[int, Draft | SimyardError] = {
        i: one if isinstance(one, SimyardError) else admitted[i] for i, one in enumerate(parsed)
    }
    drafts = {i: one for i, one in outcomes.items() if isinstance(one, Draft)}
    results = {i: BatchResult(problem=problem_of(e)) for i, e in outcomes.items() if isinstance(e, SimyardError)}
    if batch.atomic and results:
        results |= {i: BatchResult(problem=problem_of(_held_back())) for i in drafts}
    elif drafts:
        results |= _stored(context, drafts, atomic=batch.atomic)
    return BatchResults(results=tuple(results[i] for i in range(len(parsed))))


def _stored(context: Context, drafts: Mapping[int, Draft], *, atomic: bool) -> dict[int, BatchResult]:
    submissions = context.store.submit(list(drafts.values()), context.clock(), atomic=atomic)
    results = {}
    for i, submission in zip(drafts, submissions, strict=True):
        if submission.error is not None:
            results[i] = BatchResult(problem=problem_of(submission.error))
        elif submission.record is None:
            results[i] = BatchResult(problem=problem_of(_held_back()))
        else:
            results[i] = BatchResult(task=submission.record.task, created=submission.created)
    return results


def _wanted(item: object) -> Wanted | SimyardError:
    try:
        checked = BatchItem.model_validate(item)
    except ValidationError as error:
        return invalid_value(error, BatchItem, item, below="spec")
    return Wanted(spec=checked.spec, key=checked.idempotency_key)


def _held_back() -> Conflict:
    return Conflict(
        "It was not submitted, because another task of this atomic batch was refused.",
        fix="Mend the refused ones and send the batch again.",
    )
