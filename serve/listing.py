"""Tasks as their users see them: one, many by filters, cancelled, explained."""

from __future__ import annotations

import base64
import binascii
import heapq
import re
from dataclasses import replace
from itertools import islice
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Response
from starlette.background import BackgroundTask

from serve.auth import User
from serve.context import Context, HasContext
from serve.machines import GroupMemory, memory_of
from serve.news import all_events
from serve.ownership import TASK_ID, OwnTask
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simulators.work import NoSnapshot
from simyard.checkpoint import Snapshot
from simyard.dependency import Dependency
from simyard.errors import InvalidInput
from simyard.status import Status
from simyard.task import Explanation, Task
from simyard.words import Word
from tasks.explain import explain
from tasks.forecast import RUNS, forecast
from tasks.record import TaskQuery, TaskRecord
from tasks.rooms import sized
from tasks.rules import loads_of
from tasks.shares import barrier
from tasks.stimulus import Cancel, Hold, Release

router = APIRouter(tags=["tasks"])

MOST_IDS = 200
"""How many tasks may be named in one request."""
SNAPSHOT_SECONDS = 60.0
"""How long a request waits for a snapshot; one that takes longer is completed all the same."""


class TaskPage(Word):
    """Some of the tasks, newest first."""

    tasks: tuple[Task, ...]
    cursor: str | None
    """Give it back as `cursor` for the next page; None on the last one."""


Filter = Annotated[str | None, Query(max_length=200)]


@router.get("/v1/tasks", summary="List tasks", response_model=TaskPage, responses=PROBLEMS)
async def list_tasks(
    context: HasContext,
    user: User,
    status: Annotated[
        str | None, Query(description="One status or several, with commas", examples=["queued,running"])
    ] = None,
    simulator: Filter = None,
    project: Filter = None,
    name: Filter = None,
    group: Filter = None,
    sweep: Filter = None,
    ids: Annotated[
        str | None,
        Query(max_length=20 * MOST_IDS, description=f"Up to {MOST_IDS} ids with commas, instead of filters"),
    ] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="From the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Return your tasks that fit all the filters, newest first, a page at a time; or those that are named by `ids`."""
    if ids is not None:
        if any(one is not None for one in (status, simulator, project, name, group, sweep, cursor)):
            raise InvalidInput("stands alone.", field="ids", fix="Leave out the filters and the cursor.")
        named = await to_thread.run_sync(_named, context, user, ids)
        return await to_thread.run_sync(json_answer, TaskPage(tasks=tuple(r.task for r in named), cursor=None))
    statuses = _statuses(status)
    before = None if cursor is None else read_cursor(cursor)
    query = TaskQuery(
        simulator=simulator,
        project=project,
        name=name,
        group=group,
        sweep=sweep,
        user=user,
        before=before,
        limit=limit + 1,
    )
    found = await to_thread.run_sync(_find, context, query, statuses)
    page = found[:limit]
    cursor = cursor_of(page[-1].seq) if len(found) > limit else None
    return await to_thread.run_sync(json_answer, TaskPage(tasks=tuple(r.task for r in page), cursor=cursor))


@router.get("/v1/tasks/{task}", summary="Look at a task", response_model=Task, responses=PROBLEMS)
async def get_task(record: OwnTask) -> Response:
    """Return a task as it stands."""
    return json_answer(record.task)


@router.post(
    "/v1/tasks/{task}:cancel", summary="Cancel a task", response_model=Task, status_code=202, responses=PROBLEMS
)
async def cancel_task(context: HasContext, record: OwnTask) -> Response:
    """Ask that a task ends; one that has ended stays as it is. What a running one has made so far is kept."""
    after = await to_thread.run_sync(context.store.apply, record.id, Cancel(), context.clock())
    answer = json_answer(after.task, 202)
    answer.background = BackgroundTask(context.waker.wake)
    return answer


@router.post("/v1/tasks/{task}:hold", summary="Hold a task", response_model=Task, responses=PROBLEMS)
async def hold_task(context: HasContext, record: OwnTask) -> Response:
    """Keep a task from starting until it is released; what runs goes on, and one that has ended stays as it is."""
    after = await to_thread.run_sync(context.store.apply, record.id, Hold(), context.clock())
    return json_answer(after.task)


@router.post("/v1/tasks/{task}:release", summary="Release a task", response_model=Task, responses=PROBLEMS)
async def release_task(context: HasContext, record: OwnTask) -> Response:
    """Let a held task start when its turn comes; its queue limit counts from now."""
    after = await to_thread.run_sync(context.store.apply, record.id, Release(), context.clock())
    answer = json_answer(after.task)
    answer.background = BackgroundTask(context.waker.wake)
    return answer


@router.post(
    "/v1/tasks/{task}:checkpoint", summary="Take a snapshot of a task", response_model=Snapshot, responses=PROBLEMS
)
async def checkpoint_task(context: HasContext, record: OwnTask) -> Response:
    """Keep the restart files of a running task as they are now; answers once the snapshot is complete."""
    if record.holder is None:
        fix = "Ask while it is running." if not record.status.is_end else None
        raise NoSnapshot(f"The task is {record.status}; only one that runs has something to keep.", fix=fix)
    return json_answer(await context.live.checkpoint(record.holder, record.id, record.attempt, SNAPSHOT_SECONDS))


@router.get("/v1/tasks/{task}/explain", summary="Explain a task", response_model=Explanation, responses=PROBLEMS)
async def explain_task(
    context: HasContext, record: OwnTask, groups: Annotated[GroupMemory, Depends(memory_of)]
) -> Response:
    """Say in plain words why a task waits, runs or has ended, with the evidence and what to do next."""
    known = await groups.recent()

    def look() -> Explanation:
        store, events = context.store, all_events(context.store, record.id)
        current, why = store.get(record.id), None
        if current.status is Status.QUEUED:
            largest = {one.name: max(one.places, key=lambda m: m.cpus) for one in known or () if one.places}
            now = context.clock()
            why = barrier(sized(current, largest), store.rules(now), loads_of(store.active(), now), context.prices())
        position = None if why else store.position(record.id)
        runs = [] if position is None else store.runs(record.task.simulator, RUNS)
        expected = forecast(current, position, known or (), runs, context.clock())
        waits = current.task.after if current.status is Status.WAITING else ()
        parents = tuple(store.named(record.user, waits).values())
        return explain(current, events, position, known or (), expected, why, parents)

    return json_answer(await to_thread.run_sync(look))


def _named(context: Context, user: str, ids: str) -> list[TaskRecord]:
    """Return the user's tasks of these ids, newest first; those that there are not are left out."""
    wanted = [one for part in ids.split(",") if (one := part.strip())]
    if len(wanted) > MOST_IDS:
        raise InvalidInput(f"names {len(wanted)} tasks.", field="ids", fix=f"Name at most {MOST_IDS} at a time.")
    known = [Dependency(task=one) for one in wanted if TASK_ID.fullmatch(one)]
    return sorted(context.store.named(user, known).values(), key=lambda record: -record.seq)


def _find(context: Context, query: TaskQuery, statuses: tuple[Status, ...]) -> list[TaskRecord]:
    if not statuses:
        return context.store.list(query)
    by_status = [context.store.list(replace(query, status=status)) for status in statuses]
    return list(islice(heapq.merge(*by_status, key=lambda record: -record.seq), query.limit))


def _statuses(text: str | None) -> tuple[Status, ...]:
    if text is None:
        return ()
    found = dict.fromkeys(part.strip() for part in text.split(","))
    unknown = [part for part in found if part not in set(Status)]
    if unknown:
        allowed = ", ".join(Status)
        raise InvalidInput(f"{unknown[0][:50]!r} is no status.", field="status", fix=f"Allowed: {allowed}.")
    return tuple(Status(part) for part in found)


def cursor_of(seq: int) -> str:
    """Return the cursor of the page after the row with that number."""
    return base64.urlsafe_b64encode(f"1:{seq}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """Return the number that a cursor holds.

    Raises:
        InvalidInput: it is no cursor.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    match = re.fullmatch(r"1:(\d{1,18})", text, re.ASCII)
    if match is None:
        fix = "Take the cursor of the page before, or leave it out for the first page."
        raise InvalidInput("is no cursor of this server.", field="cursor", fix=fix)
    return int(match[1])
