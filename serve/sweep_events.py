"""One stream for all tasks of a sweep: what happens to them, and how far the whole is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
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
from simyard.sweep import Sweep
from tasks.record import SweepRecord

router = APIRouter(tags=["sweeps"])
_REMEMBERED = 1024
_PAGES = 64
_SECONDS = 1.0
"""How often the stream says how far the sweep is, while there is news."""


@dataclass(frozen=True)
class Glance:
    """A sweep as it was at a moment."""

    sweep: Sweep
    json: str
    at: float
    """The monotonic time at which the look was over."""

    def progress(self, after: int) -> bytes:
        """Return it as a server-sent event after which a stream resumes at number `after`."""
        return f"id: {after}\nevent: progress\ndata: {self.json}\n\n".encode()


class Glances:
    """Looks at sweeps for all streams together, so that many watchers of one sweep cost no more than one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._seen: dict[str, Glance] = {}

    async def look(self, record: SweepRecord, after: int) -> Glance:
        """Return the sweep as it was a moment ago, or later; its counts have every event up to number `after`."""
        async with self._lock:
            glance = self._seen.get(record.id)
            if glance is None or glance.sweep.latest < after or time.monotonic() - glance.at > _SECONDS / 2:
                sweep = await to_thread.run_sync(info_of, self._context, record)
                glance = Glance(sweep=sweep, json=sweep.model_dump_json(), at=time.monotonic())
                if len(self._seen) >= _REMEMBERED:
                    self._seen.clear()
                self._seen[record.id] = glance
            return glance


@dataclass(frozen=True)
class Page:
    """Events of a sweep's tasks, as a stream tells them."""

    text: bytes
    last: int
    """The number of the newest one; where there is none, of the event that they were to come after."""
    is_full: bool
    """Whether there may be more of them."""


class Pages:
    """Reads the events of sweeps for all streams together: those that stand at the same event are told the same."""

    def __init__(self, context: Context, feed: Feed) -> None:
        self._store = context.store
        self._feed = feed
        self._seen: int | None = None
        """What the feed had seen when each of the readings began."""
        self._readings: dict[tuple[str, int], tuple[float, asyncio.Task[Page]]] = {}

    async def read(self, sweep: str, after: int, since: float) -> Page:
        """Return what comes after an event: all that there was at a monotonic time, and all that woke a watcher."""
        seen, place = self._feed.seen, (sweep, after)
        if seen is None or seen != self._seen or len(self._readings) >= _PAGES:
            self._readings.clear()
            self._seen = seen
        began, reading = self._readings.get(place, (0.0, None))
        if reading is None or began < since:
            # A task of its own, which goes on for the others when the stream that was the first one is left.
            reading = asyncio.create_task(to_thread.run_sync(self._page, sweep, after))
            self._readings[place] = (time.monotonic(), reading)
        try:
            return reading.result() if reading.done() else await asyncio.shield(reading)
        except Exception:
            self._readings.pop(place, None)
            raise

    def _page(self, sweep: str, after: int) -> Page:
        events = self._store.events(sweep=sweep, after=after, limit=PAGE)
        return Page(
            text="".join(event_text(event) for event in events).encode(),
            last=events[-1].seq if events else after,
            is_full=len(events) == PAGE,
        )


async def pages_of(request: Request) -> Pages:
    """Return the pages of the application that answers the request."""
    return cast(Pages, request.app.state.pages)


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
    pages: Annotated[Pages, Depends(pages_of)],
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
    feed.check_room()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body = _stream(context, feed, glances, pages, record, start)
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _stream(
    context: Context, feed: Feed, glances: Glances, pages: Pages, record: SweepRecord, after: int | None
) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    with feed.watch(record.id, after or 0) as watcher:
        glance = await glances.look(record, watcher.after)
        watcher.after = glance.sweep.latest if after is None else after
        yield glance.progress(watcher.after)
        said, due = time.monotonic(), False
        while True:
            page = await pages.read(record.id, watcher.after, glance.at)
            text = page.text
            if text:
                watcher.after, due = page.last, True
            if page.is_full:
                yield text
                continue
            if glance.sweep.is_over:
                # It was over before its events were read, so they are all told.
                yield text + glance.progress(watcher.after)
                return
            left = _SECONDS - (time.monotonic() - said)
            if due and left <= 0:
                glance = await glances.look(record, watcher.after)
                said, due = time.monotonic(), False
                if not glance.sweep.is_over:
                    # Both as one piece: each costs every layer between here and the watcher.
                    text += glance.progress(watcher.after)
            if text:
                yield text
            # Unless it is over, and the last events are to be told: then there is no more to wait for.
            if not glance.sweep.is_over and not await watcher.wait(left if due else context.heartbeat_seconds):
                # The stream says that it lives by saying how far the sweep is.
                due = True
