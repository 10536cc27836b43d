"""Sweeps: submitted in one request, listed, looked at and cancelled as one."""

from __future__ import annotations

import asyncio
from typing import Annotated, cast

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.background import BackgroundTask

from serve.auth import User
from serve.bodies import documented, json_body
from serve.context import Context, HasContext
from serve.examples import SWEEP
from serve.expansion import expand, known_sweep
from serve.listing import cursor_of, read_cursor
from serve.machines import GroupMemory, memory_of
from serve.ownership import OwnSweep
from serve.problems import PROBLEMS
from serve.streams import json_answer
from serve.submissions import KEY
from simyard.errors import Unavailable
from simyard.group import MachineGroup
from simyard.sweep import Sweep, SweepSpec
from simyard.words import Word
from tasks.record import MICROS, SweepQuery, SweepRecord, SweepSubmission, TaskQuery
from tasks.stimulus import Cancel

router = APIRouter(tags=["sweeps"])

RequestKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY,
        description="1 to 200 visible characters; the same key again gives the same sweep.",
    ),
]
_PAGE = 500
_AT_ONCE = 2
_PATIENCE = 300.0


class SweepPage(Word):
    """Some of the sweeps, newest first."""

    sweeps: tuple[Sweep, ...]
    cursor: str | None
    """Give it back as `cursor` for the next page; None on the last one."""


class Turns:
    """Lets a few sweeps be made at a time: each takes a core while it is."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            Unavailable: there is none for minutes.
        """
        try:
            await asyncio.wait_for(self._free.acquire(), _PATIENCE)
        except TimeoutError:
            fix = "Send the sweep again later."
            raise Unavailable("The server is busy with other sweeps.", fix=fix) from None

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


async def turns_of(request: Request) -> Turns:
    """Return the turns of the application that answers the request."""
    return cast(Turns, request.app.state.turns)


@router.post(
    "/v1/sweeps",
    summary="Submit a sweep",
    response_model=Sweep,
    status_code=201,
    responses={
        **PROBLEMS,
        200: {"description": "The same request was accepted before: this is its sweep.", "model": Sweep},
        409: {"description": "The idempotency key was used for another request."},
        413: {"description": "The body is too large."},
    },
    openapi_extra=documented(SweepSpec, pipes=SWEEP),
)
async def submit_sweep(
    context: HasContext,
    user: User,
    groups: Annotated[GroupMemory, Depends(memory_of)],
    turns: Annotated[Turns, Depends(turns_of)],
    spec: Annotated[SweepSpec, Depends(json_body(SweepSpec))],
    idempotency_key: RequestKey = None,
) -> Response:
    """Make a task of each case, store all of them durably and answer with the sweep.

    `task` is a task whose inputs are the files of the template folder. Those that end in `.jinja` are rendered for each
    case with Jinja2, and become inputs without that suffix; those that also begin with `_` are only taken in by others.
    Texts of the task's parameters, commands, metadata and name are rendered too, where they hold `{{`, `{%` or `{#`.
    Everything is checked before anything is stored: all cases go in, or none.
    """
    known = await groups.recent()
    async with turns:
        made = await to_thread.run_sync(_make, context, user, spec, idempotency_key, known)
    answer = await to_thread.run_sync(lambda: json_answer(info_of(context, made.record), 201 if made.created else 200))
    answer.headers["Location"] = f"/v1/sweeps/{made.record.id}"
    answer.background = BackgroundTask(context.waker.wake)
    return answer


@router.get("/v1/sweeps", summary="List sweeps", response_model=SweepPage, responses=PROBLEMS)
async def list_sweeps(
    context: HasContext,
    user: User,
    cursor: Annotated[str | None, Query(max_length=200, description="From the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Return your sweeps with their counts, newest first, a page at a time."""
    query = SweepQuery(user=user, before=None if cursor is None else read_cursor(cursor), limit=limit + 1)

    def look() -> Response:
        found = context.store.list_sweeps(query)
        page = found[:limit]
        following = cursor_of(page[-1].seq) if len(found) > limit else None
        return json_answer(SweepPage(sweeps=tuple(info_of(context, one) for one in page), cursor=following))

    return await to_thread.run_sync(look)


@router.get("/v1/sweeps/{sweep}", summary="Look at a sweep", response_model=Sweep, responses=PROBLEMS)
async def get_sweep(context: HasContext, record: OwnSweep) -> Response:
    """Return a sweep with how many of its tasks stand in each status."""
    return await to_thread.run_sync(lambda: json_answer(info_of(context, record)))


@router.post(
    "/v1/sweeps/{sweep}:cancel", summary="Cancel a sweep", response_model=Sweep, status_code=202, responses=PROBLEMS
)
async def cancel_sweep(context: HasContext, record: OwnSweep) -> Response:
    """Ask that every task of a sweep ends; those that have ended stay as they are."""

    def cancel() -> Response:
        before: int | None = None
        # The newest first: the dispatcher takes the oldest, so that few of them start meanwhile.
        while page := context.store.list(TaskQuery(sweep=record.id, before=before, limit=_PAGE)):
            for task in page:
                if not task.status.is_end and not task.task.cancel_requested:
                    context.store.apply(task.id, Cancel(), context.clock())
            before = page[-1].seq
        return json_answer(info_of(context, record), 202)

    answer = await to_thread.run_sync(cancel)
    answer.background = BackgroundTask(context.waker.wake)
    return answer


def info_of(context: Context, record: SweepRecord) -> Sweep:
    """Return a sweep as its user sees it now."""
    # The number first: whoever follows the sweep from there misses nothing that the counts do not have.
    latest = context.store.latest()
    counts = context.store.counts(sweep=record.id)
    # After the counts: what has ended by them has been paid for.
    cost = context.store.get_sweep(record.id).cost
    draft = record.draft
    return Sweep(
        id=draft.id,
        name=draft.name,
        project=draft.project,
        simulator=draft.simulator,
        version=draft.version,
        columns=draft.columns,
        cases=record.cases,
        counts=counts,
        ended=sum(count for status, count in counts.items() if status.is_end),
        created_at=record.created_at,
        cost_usd=None if cost is None else cost / MICROS,
        latest=latest,
    )


def _make(
    context: Context, user: str, spec: SweepSpec, key: str | None, groups: tuple[MachineGroup, ...] | None
) -> SweepSubmission:
    known = known_sweep(context.store, spec, user, key)
    if known is not None:
        return known
    sweep, drafts = expand(spec, user, key, groups, context.storage)
    return context.store.submit_sweep(sweep, drafts, context.clock())
