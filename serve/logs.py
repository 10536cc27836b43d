"""What a task's commands print: live while they run, then from the storage, at the same offsets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from serve.context import Context, HasContext
from serve.news import Feed, HasFeed, all_events
from serve.outputs import check_kept, find_entry
from serve.ownership import OwnTask
from serve.problems import PROBLEMS
from serve.streams import pieces
from simyard.errors import NotFound
from simyard.event import LogStream
from storage.reader import read_entry
from tasks.live import HolderGone, LogPiece
from tasks.record import TaskRecord

PIECE = 256 * 1024
WAIT = 10.0
_MISSES = 5
_LARGEST = 2**62
router = APIRouter(tags=["events and logs"])


@router.get(
    "/v1/tasks/{task}/logs",
    summary="Read or follow a log",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {
            "description": "The log's bytes as they were printed.",
            "content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "Simyard-Attempt": {"description": "Whose log it is", "schema": {"type": "integer", "minimum": 1}}
            },
        },
    },
)
async def read_log(
    context: HasContext,
    feed: HasFeed,
    record: OwnTask,
    stream: Annotated[LogStream, Query()] = LogStream.STDOUT,
    offset: Annotated[int, Query(ge=0, le=_LARGEST, description="First byte; resume with what you have")] = 0,
    follow: Annotated[bool, Query(description="Go on until the attempt has ended")] = False,
    attempt: Annotated[int | None, Query(ge=1, le=_LARGEST, description="By default the newest")] = None,
) -> Response:
    """Return what the commands printed, from a byte on; it works while the task runs and after its end.

    With `follow` the answer goes on until the attempt has ended, and waits for a queued task to start. A connection
    that broke is resumed by asking again with the number of bytes that have arrived. When the attempt is lost with
    its machine, the answer ends; the next attempt has its own log.
    """
    check_kept(record)
    number = _choose(record, attempt, follow=follow)
    headers = {"Content-Type": "text/plain", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if number is None:
        return Response(headers=headers)
    log = _Log(context=context, feed=feed, task=record.outputs_of, attempt=number, stream=stream, follow=follow)
    return StreamingResponse(log.read(offset), headers=headers | {"Simyard-Attempt": str(number)})


def _choose(record: TaskRecord, attempt: int | None, *, follow: bool) -> int | None:
    """Return the attempt whose log is meant; None when there is none, nor any to wait for."""
    newest = record.attempt
    coming = newest + 1 if follow and not record.status.is_active and not record.status.is_end else newest
    if attempt is None:
        return (record.task.result or coming) or None
    if attempt > coming:
        fix = f"The newest is {newest}." if newest else "The task has none yet; `follow=true` waits for it."
        raise NotFound(f"There is no attempt {attempt}.", field="attempt", fix=fix)
    return attempt


@dataclass(frozen=True, kw_only=True)
class _Log:
    """One log of one attempt."""

    context: Context
    feed: Feed
    task: str
    attempt: int
    stream: LogStream
    follow: bool

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        """Give its bytes from an offset on."""
        misses = 0
        while True:
            record = await to_thread.run_sync(self.context.store.get, self.task)
            if record.attempt < self.attempt:
                if record.status.is_end or not self.follow:
                    return
                await self._news()
                continue
            if record.attempt > self.attempt or not record.status.is_active or record.holder is None:
                break
            asked = time.monotonic()
            try:
                piece = await self._piece(record.holder, offset)
            except HolderGone:
                # Either the attempt has ended and the record is about to say so, or another process takes it over.
                misses += 1
                if not self.follow and misses > _MISSES:
                    return
                await anyio.sleep(self.context.poll_seconds)
                continue
            if piece.data:
                offset += len(piece.data)
                yield piece.data
            elif piece.ended or not self.follow:
                return
            elif time.monotonic() - asked < self.context.poll_seconds:
                await anyio.sleep(self.context.poll_seconds)
        async for data in self._stored(offset):
            yield data

    async def _piece(self, holder: str, offset: int) -> LogPiece:
        wait = WAIT if self.follow else 0.0
        return await self.context.live.read_log(holder, self.task, self.attempt, self.stream, offset, PIECE, wait)

    async def _stored(self, offset: int) -> AsyncIterator[bytes]:
        """Give what was stored at the attempt's end; nothing when the attempt was lost before that."""
        storage = self.context.storage
        try:
            entry = await to_thread.run_sync(
                find_entry, storage, self.task, self.attempt, f".simyard/{self.stream.value}.log"
            )
        except NotFound:
            return
        if offset >= entry.size:
            return
        async for data in await pieces(lambda: read_entry(storage, self.task, self.attempt, entry, offset)):
            yield data

    async def _news(self) -> None:
        """Wait until something happens to the task, or a while."""
        with self.feed.watch(self.task, 0) as watcher:
            events = await to_thread.run_sync(all_events, self.context.store, self.task)
            if events and not events[-1].status.is_active and not events[-1].status.is_end:
                watcher.after = events[-1].seq
                await watcher.wait(WAIT)
