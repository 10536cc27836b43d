"""The events of a task: as a stream that resumes, or as a list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from serve.context import Context, HasContext
from serve.news import PAGE, Feed, HasFeed
from serve.ownership import OwnTask
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simyard.event import Event
from simyard.words import Word

router = APIRouter(tags=["events and logs"])
LARGEST = 2**62


class Events(Word):
    """Events of a task, oldest first."""

    events: tuple[Event, ...]


_EXAMPLE = 'id: 41\nevent: status\ndata: {"seq":41,"task":"t3k9x0m2v7q4a","kind":"status","status":"running"}\n\n'


@router.get(
    "/v1/tasks/{task}/events",
    summary="Follow what happens to a task",
    response_model=Events,
    responses={
        **PROBLEMS,
        200: {
            "description": "Server-sent events, or JSON where `Accept` asks for `application/json`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
    },
)
async def follow_events(
    context: HasContext,
    feed: HasFeed,
    record: OwnTask,
    accept: Annotated[str, Header()] = "*/*",
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, le=LARGEST, description="Resume after this event")
    ] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST, description="Resume after this event")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events of the JSON answer")] = 1000,
) -> Response:
    """Return the task's events as server-sent events: `id` is the number to resume after, `event` the kind.

    The stream ends when the task has ended. A comment comes when nothing else does. With `Accept: application/json`
    the events that are there come at once, as one object.
    """
    start = after if last_event_id is None else last_event_id
    if "application/json" in accept and "text/event-stream" not in accept:
        events = await to_thread.run_sync(lambda: context.store.events(task=record.id, after=start, limit=limit))
        return await to_thread.run_sync(json_answer, Events(events=tuple(events)))
    feed.check_room()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body = _stream(context, feed, record.id, start)
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _stream(context: Context, feed: Feed, task: str, after: int) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    with feed.watch(task, after) as watcher:
        while True:
            ended, events = await to_thread.run_sync(_read, context, task, watcher.after)
            if events:
                watcher.after = events[-1].seq
                yield "".join(event_text(event) for event in events)
            if len(events) == PAGE:
                continue
            if ended:
                return
            if not await watcher.wait(context.heartbeat_seconds):
                yield ": still here\n\n"


def _read(context: Context, task: str, after: int) -> tuple[bool, list[Event]]:
    # The record first: when it has ended, all its events are there to be read.
    ended = context.store.get(task).status.is_end
    return ended, context.store.events(task=task, after=after, limit=PAGE)


def event_text(event: Event) -> str:
    """Return an event as a server-sent one."""
    return f"id: {event.seq}\nevent: {event.kind.value}\ndata: {event.model_dump_json()}\n\n"
