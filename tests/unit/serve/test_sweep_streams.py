from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from serve.news import Feed
from serve.sweep_events import Page, Pages
from simyard.event import Event
from simyard.status import Status
from tasks.errors import StoreUnavailable
from tasks.memory import MemoryStore
from tasks.record import TaskQuery
from tasks.stimulus import Cancel
from tests.unit.serve.face import Face
from tests.unit.serve.test_sweeps import submit

SECONDS = 10.0


class WatchedStore(MemoryStore):
    """Counts the readings of sweeps' events, and lets them wait or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0
        self.fails = False
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def events(
        self, *, task: str | None = None, sweep: str | None = None, after: int = 0, limit: int = 1000
    ) -> list[Event]:
        found = super().events(task=task, sweep=sweep, after=after, limit=limit)
        if sweep is not None:
            self.readings += 1
            self.began.set()
            assert self.may_go_on.wait(SECONDS)
            if self.fails:
                raise StoreUnavailable("It fails.")
        return found


class SeenFeed(Feed):
    """Has seen what it is told that it has."""

    now: int | None = 1

    @property
    def seen(self) -> int | None:
        return self.now


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
def face(store: WatchedStore) -> Iterator[Face]:
    made = Face(store=store)
    yield made
    made.close()


@pytest.fixture
def feed(face: Face) -> SeenFeed:
    return SeenFeed(face.context)


@pytest.fixture
def pages(face: Face, feed: SeenFeed) -> Pages:
    return Pages(face.context, feed)


def test_streams_at_the_same_event_share_one_reading(face: Face, store: WatchedStore, pages: Pages) -> None:
    sweep = submit(face)["id"]

    async def read_by_many() -> set[bytes]:
        return {page.text for page in await asyncio.gather(*(pages.read(sweep, 0, 0.0) for _ in range(50)))}

    [text] = asyncio.run(read_by_many())
    assert text.count(b"event: submitted") == 3
    assert store.readings == 1


def cancel_one(face: Face, sweep: str) -> None:
    [task] = face.store.list(TaskQuery(sweep=sweep, status=Status.QUEUED, limit=1))
    face.store.apply(task.id, Cancel(), face.clock())


def test_what_the_feed_has_seen_is_read_again(face: Face, feed: SeenFeed, pages: Pages) -> None:
    told = submit(face)

    async def read_before_and_after() -> tuple[Page, Page]:
        before = await pages.read(told["id"], told["latest"], 0.0)
        cancel_one(face, told["id"])
        feed.now = face.store.latest()
        return before, await pages.read(told["id"], told["latest"], 0.0)

    before, after = asyncio.run(read_before_and_after())
    assert (before.text, before.last) == (b"", told["latest"])
    assert (b"cancelled" in after.text, after.last) == (True, face.store.latest())


def test_a_stream_that_ends_is_told_of_ends_that_the_feed_has_not_seen_yet(face: Face, pages: Pages) -> None:
    told = submit(face)

    async def read_before_and_after() -> Page:
        await pages.read(told["id"], told["latest"], 0.0)
        cancel_one(face, told["id"])
        # Here it looks at the sweep, and finds that it is over.
        return await pages.read(told["id"], told["latest"], time.monotonic())

    assert b"cancelled" in asyncio.run(read_before_and_after()).text


@pytest.mark.parametrize("seen", [None, 1])
def test_a_reading_that_failed_is_tried_again(
    face: Face, store: WatchedStore, feed: SeenFeed, pages: Pages, seen: int | None
) -> None:
    sweep = submit(face)["id"]
    feed.now = seen

    async def read_twice() -> Page:
        store.fails = True
        with pytest.raises(StoreUnavailable):
            await pages.read(sweep, 0, 0.0)
        store.fails = False
        return await pages.read(sweep, 0, 0.0)

    assert asyncio.run(read_twice()).text


def test_a_stream_that_is_left_takes_the_reading_from_nobody(face: Face, store: WatchedStore, pages: Pages) -> None:
    sweep = submit(face)["id"]

    async def leave_and_stay() -> Page:
        store.may_go_on.clear()
        leaves = asyncio.create_task(pages.read(sweep, 0, 0.0))
        stays = asyncio.create_task(pages.read(sweep, 0, 0.0))
        assert await asyncio.to_thread(store.began.wait, SECONDS)
        leaves.cancel()
        await asyncio.wait([leaves])
        store.may_go_on.set()
        return await stays

    assert asyncio.run(leave_and_stay()).text
    assert store.readings == 1


def test_readings_are_forgotten_before_they_are_many(face: Face, pages: Pages) -> None:
    sweep = submit(face)["id"]

    async def read_at_many_places() -> None:
        for after in range(200):
            await pages.read(sweep, after, 0.0)

    asyncio.run(read_at_many_places())
    assert len(pages._readings) <= 64
