"""News of tasks for all open streams: one waits for the store to have some, and wakes those for whom they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, cast

from anyio import to_thread
from fastapi import Depends, Request

from serve.context import Context
from simyard.errors import Unavailable
from simyard.event import Event
from tasks.store import Store

PAGE = 500
MOST = 10_000
"""Event streams that one replica keeps open at a time."""
_WAIT_SECONDS = 1.0
"""How long one call waits, so that it does not outlive its server by more than this."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Watcher:
    """Somebody who waits for events of a task or a sweep that come after number `after`."""

    subject: str
    """The task's or the sweep's id."""
    after: int
    _flag: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be news, at most so long; return whether there may be."""
        try:
            await asyncio.wait_for(self._flag.wait(), seconds)
        except TimeoutError:
            return False
        self._flag.clear()
        return True

    def wake(self) -> None:
        """End the wait."""
        self._flag.set()


class Feed:
    """Waits on the store for all watchers at once, and only while there are some."""

    def __init__(self, context: Context) -> None:
        self._store = context.store
        self._seconds = context.poll_seconds
        self._watchers: set[Watcher] = set()
        self._poller: asyncio.Task[None] | None = None
        self._seen: int | None = None

    @property
    def seen(self) -> int | None:
        """The number of the newest event of which watchers have been woken; None while that is not known."""
        return self._seen

    def check_room(self) -> None:
        """Return where one more watcher has room.

        Raises:
            Unavailable: there are as many as may be.
        """
        if len(self._watchers) >= MOST:
            fix = "Follow a whole sweep with one stream, or come back later."
            raise Unavailable(f"{MOST:,} event streams are open.", fix=fix)

    @contextmanager
    def watch(self, subject: str, after: int) -> Iterator[Watcher]:
        """Give a watcher that is woken from now on; news from before must be read once after this."""
        watcher = Watcher(subject=subject, after=after)
        self._watchers.add(watcher)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def _poll(self) -> None:
        self._seen = None
        while self._watchers:
            try:
                seen: int | None = self._seen
                ask = self._store.latest if seen is None else partial(self._store.wait, seen, _WAIT_SECONDS)
                latest = await to_thread.run_sync(ask, abandon_on_cancel=True)
                if seen is None:
                    # What happened before this look is read by the watchers themselves.
                    self._wake(None)
                elif latest > seen:
                    self._wake(await to_thread.run_sync(self._subjects_with_news, seen))
                self._seen = latest
            except Exception:  # noqa: BLE001 - the watchers meet the same error when they read, and tell their own clients
                _log.exception("The store could not be asked for news.")
                self._seen = None
            await asyncio.sleep(self._seconds)

    def _wake(self, subjects: set[str] | None) -> None:
        for watcher in self._watchers:
            if subjects is None or watcher.subject in subjects:
                watcher.wake()

    def _subjects_with_news(self, after: int) -> set[str]:
        found: set[str] = set()
        while page := self._store.events(task=None, after=after, limit=PAGE):
            found |= {event.task for event in page}
            found |= {event.sweep for event in page if event.sweep is not None}
            after = page[-1].seq
        return found


def all_events(store: Store, task: str, after: int = 0) -> list[Event]:
    """Return all events of a task after a number; a store keeps a bounded number of them."""
    found: list[Event] = []
    while page := store.events(task=task, after=after, limit=PAGE):
        found += page
        after = page[-1].seq
    return found


async def feed_of(request: Request) -> Feed:
    """Return the feed of the application that answers the request."""
    return cast(Feed, request.app.state.feed)


HasFeed = Annotated[Feed, Depends(feed_of)]
"""A parameter that receives the feed."""
