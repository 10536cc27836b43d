from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from serve.admission import Wanted
from serve.intake import Intake
from simyard.errors import Conflict, InvalidInput, SimyardError
from simyard.task import TaskSpec
from tasks.errors import StoreUnavailable
from tasks.memory import MemoryStore
from tasks.record import Draft, Submission
from tests.unit.serve.face import Face


class SlowStore(MemoryStore):
    """Counts its transactions; the first one goes on only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[int] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> list[Submission]:
        self.turns.append(len(drafts))
        if len(self.turns) == 1:
            self.begun.set()
            assert self.go.wait(30)
        return super().submit(drafts, now, atomic=atomic)


@pytest.fixture
def slow() -> Face:
    return Face(store=SlowStore())


def wanted(face: Face, key: str | None = None, **changes: Any) -> Wanted:
    return Wanted(spec=TaskSpec.model_validate(face.spec(**changes)), key=key)


async def gathered(face: Face, asked: Sequence[tuple[str, Wanted]]) -> list[Submission | BaseException]:
    """Return what becomes of submissions of which all but the first arrive while the first is being written."""
    intake, store = Intake(face.context), face.store
    assert isinstance(store, SlowStore)
    tasks = [asyncio.create_task(intake.submit(*asked[0], face.groups))]
    assert await asyncio.to_thread(store.begun.wait, 30)
    tasks += [asyncio.create_task(intake.submit(user, one, face.groups)) for user, one in asked[1:]]
    await asyncio.sleep(0)
    store.go.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_those_that_arrive_meanwhile_share_the_next_transaction(slow: Face) -> None:
    asked = [("ada", wanted(slow, name=f"n{i}")) for i in range(5)] + [("bob", wanted(slow, name="bob's"))]
    results = asyncio.run(gathered(slow, asked))
    assert isinstance(slow.store, SlowStore)
    assert slow.store.turns == [1, 5]
    records = [result.record for result in results if isinstance(result, Submission) and result.record]
    assert [(record.user, record.task.name) for record in records] == [(user, one.spec.name) for user, one in asked]
    assert slow.waker.count == 2


def test_each_gets_an_answer_of_its_own(slow: Face) -> None:
    asked = [
        ("ada", wanted(slow, "k")),
        ("ada", wanted(slow, "k", name="other")),
        ("ada", wanted(slow, resources={"cpus": 99})),
        ("ada", wanted(slow, "k")),
        ("bob", wanted(slow, "k")),
    ]
    first, conflict, refused, again, other = asyncio.run(gathered(slow, asked))
    assert isinstance(conflict, Conflict)
    assert isinstance(refused, InvalidInput)
    assert isinstance(first, Submission)
    assert isinstance(again, Submission)
    assert isinstance(other, Submission)
    assert (first.created, again.created, other.created) == (True, False, True)
    assert first.record == again.record
    assert slow.store.counts()["queued"] == 2


def test_a_store_that_is_away_is_said_to_all_and_tried_once(slow: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def fail(_: object, drafts: Sequence[Draft], *__: Any, **___: Any) -> Any:
        tried.append(len(drafts))
        raise StoreUnavailable("The disk with the database is full.")

    asked = [("ada", wanted(slow)) for _ in range(4)]
    monkeypatch.setattr(MemoryStore, "submit", fail)
    results = asyncio.run(gathered(slow, asked))
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert tried == [1, 3]
    assert slow.waker.count == 0


def test_a_defect_that_one_meets_is_not_the_others(slow: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = MemoryStore.submit

    def fail(store: MemoryStore, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> list[Submission]:
        if any(draft.spec.name == "cursed" for draft in drafts):
            raise ZeroDivisionError
        return honest(store, drafts, now, atomic=atomic)

    monkeypatch.setattr(MemoryStore, "submit", fail)
    asked = [("ada", wanted(slow, name=name)) for name in ("a", "b", "cursed", "c")]
    results = asyncio.run(gathered(slow, asked))
    assert [type(result) for result in results] == [Submission, Submission, ZeroDivisionError, Submission]
    assert slow.store.counts()["queued"] == 3


def test_who_goes_away_does_not_disturb_the_others(slow: Face) -> None:
    async def act() -> list[Submission | BaseException]:
        intake, store = Intake(slow.context), slow.store
        assert isinstance(store, SlowStore)
        tasks = [asyncio.create_task(intake.submit("ada", wanted(slow), slow.groups))]
        assert await asyncio.to_thread(store.begun.wait, 30)
        tasks += [asyncio.create_task(intake.submit("ada", wanted(slow), slow.groups)) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        store.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, gone, last = asyncio.run(act())
    assert isinstance(gone, asyncio.CancelledError)
    assert isinstance(first, Submission)
    assert isinstance(last, Submission)
    # It was sent, so it counts; its key would find it.
    assert slow.store.counts()["queued"] == 3


def test_an_error_is_raised_in_whoever_asked(face: Face) -> None:
    intake = Intake(face.context)
    with pytest.raises(SimyardError, match="cores"):
        asyncio.run(intake.submit("ada", wanted(face, resources={"cpus": 99}), face.groups))
