"""What a dispatcher hears of others that use its store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from simyard.status import Status
from tasks.lifecycle import Cancel, Hold, Progress, Release
from tasks.listening import Listener
from tasks.memory import MemoryStore
from tests.unit.tasks.samples import NOW, dispatch
from tests.unit.tasks.store_suite import make

SECONDS = 20.0


class Ear:
    def __init__(self, store: MemoryStore) -> None:
        self.heard = threading.Semaphore(0)
        self.listener = Listener(store, self.heard.release)

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with closing(MemoryStore()) as store:
        yield store


def test_what_others_ask_for_is_heard_and_what_attempts_report_is_not(store: MemoryStore) -> None:
    with closing(Ear(store)) as ear:
        task = make(store).id
        assert ear.heard.acquire(timeout=SECONDS)
        store.apply(task, Hold(), NOW)
        assert ear.heard.acquire(timeout=SECONDS)
        store.apply(task, Release(), NOW)
        assert ear.heard.acquire(timeout=SECONDS)
        store.apply(task, dispatch(), NOW)
        store.apply(task, Progress(1, Status.RUNNING), NOW)
        store.apply(task, Cancel(), NOW)
        assert ear.heard.acquire(timeout=SECONDS)
        assert not ear.heard.acquire(blocking=False)


def test_what_was_there_before_is_no_news(store: MemoryStore) -> None:
    make(store)
    with closing(Ear(store)) as ear:
        make(store)
        assert ear.heard.acquire(timeout=SECONDS)
        assert not ear.heard.acquire(blocking=False)
