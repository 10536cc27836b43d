"""One stream for all tasks of a sweep: what happens to them, and how far the whole is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, cast

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from serve.context import Context, HasContext
from serve.events import LARGEST, Events, event_text
from serve.news import PAGE, Feed, HasFeed
from serve.ownership import OwnSweep
from serve.problems import PROBLEMS
from serve.streams import json_answer
from serve.sweeps import info_of
from simyard.event import Event
from simyard.sweep import Sweep
from tasks.record import SweepRecord

router = APIRouter(tags=["sweeps"])
_REMEMBERED = 1024
_SECONDS = 1.0
"""How often the stream says how far the sweep is, while there is news."""


class Glances:
    """Looks at sweeps for all streams together, so that many watchers of one sweep cost no more than one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._seen: dict[str, tuple[float, Sweep]] = {}

    async def look(self, record: SweepRecord, after: int) -> Sweep:
        """Return the sweep as it was a moment ago, or later; its counts have every event up to number `after`."""
        async with self._lock:
            at, sweep = self._seen.get(record.id, (0.0, None))
            if sweep is None or sweep.latest < after or time.monotonic() - at > _SECONDS / 2:
                sweep = await to_thread.run_sync(info_of, self._context, record)
                if len(self._seen) >= _REMEMBERED:
                    self._seen.clear()
                self._seen[record.id] = (time.monotonic(), sweep)
            return sweep


async def glances_of(request: Request) -> Glances:
    """Return the glances of the application that answers the request."""
    return cast(Glances, request.app.state.glances)


_EXAMPLE = (
    'id: 40\nevent: progress\ndata: {"id":"s3k9x0m2v7q4a","cases":200,"ended":17,"counts":{"running":4}}\n\n'
    'id: 41\nevent: status\ndata: {"seq":41,"task":"t3k9x0m2v7q4a","kind":"status","status":"running"}\n\n'
)


@router.get(
    "/v1/sweeps/{sweep}/events",
    summary="Follow what happens to a sweep",
    response_model=Events,
    responses={
        **PROBLEMS,
        200: {
            "description": "Server-sent events, or JSON where `Accept` asks for `application/json`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
    },
)
async def follow_sweep(
    context: HasContext,
    feed: HasFeed,
    glances: Annotated[Glances, Depends(glances_of)],
    record: OwnSweep,
    accept: Annotated[str, Header()] = "*/*",
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, le=LARGEST, description="Resume after this event")
    ] = None,
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST, description="Resume after this event; by default, from now on")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events of the JSON answer")] = 1000,
) -> Response:
    """Return the events of all the sweep's tasks as server-sent events, and `progress` with the sweep itself.

    It begins with `progress`, which comes again at most once a second while something happens, and once more when every
    task has ended, which ends the stream. `id` is the number to resume after. With `Accept: application/json` the
    events that are there come at once, as one object; then `after` is 0 by default.
    """
    start = after if last_event_id is None else last_event_id
    if "application/json" in accept and "text/event-stream" not in accept:
        events = await to_thread.run_sync(lambda: context.store.events(sweep=record.id, after=start or 0, limit=limit))
        return await to_thread.run_sync(json_answer, Events(events=tuple(events)))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body = _stream(context, feed, glances, record, start)
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _stream(
    context: Context, feed: Feed, glances: Glances, record: SweepRecord, after: int | None
) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    with feed.watch(record.id, after or 0) as watcher:
        sweep = await glances.look(record, watcher.after)
        watcher.after = sweep.latest if after is None else after
        yield _progress(sweep, watcher.after)
        said, due = time.monotonic(), False
        while True:
            events = await to_thread.run_sync(_read, context, record.id, watcher.after)
            if events:
                watcher.after, due = events[-1].seq, True
                yield "".join(event_text(event) for event in events)
            if len(events) == PAGE:
                continue
            if sweep.is_over:
                # It was over before its events were read, so they are all told.
                yield _progress(sweep, watcher.after)
                return
            left = _SECONDS - (time.monotonic() - said)
            if due and left <= 0:
                sweep = await glances.look(record, watcher.after)
                said, due = time.monotonic(), False
                if not sweep.is_over:
                    yield _progress(sweep, watcher.after)
            elif not await watcher.wait(left if due else context.heartbeat_seconds):
                # The stream says that it lives by saying how far the sweep is.
                due = True


def _read(context: Context, sweep: str, after: int) -> list[Event]:
    return context.store.events(sweep=sweep, after=after, limit=PAGE)


def _progress(sweep: Sweep, after: int) -> str:
    return f"id: {after}\nevent: progress\ndata: {sweep.model_dump_json()}\n\n"
