from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simyard import batch, errors
from simyard.batch import submit_many
from simyard.files import InputFile
from simyard.handle import Task
from simyard.submission import describe
from simyard.task import TaskSpec
from tests.unit.client.wire import connection, problem

FILE = InputFile(path="größe", sha256="0" * 64, size=1)


def specs(count: int) -> list[TaskSpec]:
    return [describe("swmm", [FILE], name=f"n{i} ☃\n") for i in range(count)]


class Taker:
    """Accepts tasks as the server does: the same key again gives the same task."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.headers: list[httpx.Headers] = []
        self.ids: dict[str, str] = {}
        self.refused: dict[str, dict[str, Any]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/tasks:batch"
        self.headers.append(request.headers)
        rows = [json.loads(line) for line in gzip.decompress(request.content).splitlines()]
        self.batches.append(rows)
        answers = [self._answer(i, row) for i, row in enumerate(rows, 1)]
        return httpx.Response(200, content="".join(json.dumps(answer) + "\n" for answer in answers))

    def _answer(self, row: int, item: dict[str, Any]) -> dict[str, Any]:
        name = item["spec"]["name"]
        if name in self.refused:
            return {"row": row, "task": None, "created": False, "problem": self.refused[name]}
        task = self.ids.setdefault(item["idempotency_key"], f"t{len(self.ids):012d}")
        return {"row": row, "created": True, "new": "field", "task": info(task, name), "problem": None}


def info(task: str, name: str) -> dict[str, Any]:
    absent = ("runtime", "reason", "started_at", "ended_at", "result")
    return dict.fromkeys(absent) | {
        "id": task,
        "name": name,
        "project": "default",
        "simulator": "swmm",
        "version": "1",
        "status": "queued",
        "parameters": {},
        "commands": [],
        "resources": {},
        "limits": {},
        "group": "local",
        "priority": 0,
        "metadata": {},
        "created_at": "2026-03-01T00:00:00Z",
        "cancel_requested": False,
        "attempts": [],
    }


def names(found: list[Task | errors.SimyardError]) -> list[str | None]:
    return [one.info.name if isinstance(one, Task) else one.reason for one in found]


def test_tasks_come_back_in_their_order_over_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST", 3)
    taker, asked = Taker(), specs(8)
    found = submit_many(connection(taker), iter(asked), "k")
    assert names(found) == [spec.name for spec in asked]
    assert [len(rows) for rows in taker.batches] == [3, 3, 2]
    assert list(taker.ids) == [f"k-{i}" for i in range(8)]
    assert taker.headers[0]["content-type"] == taker.headers[0]["accept"] == "application/x-ndjson"


def test_a_request_that_is_long_in_bytes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_BYTES", 400)
    taker = Taker()
    submit_many(connection(taker), specs(5), "k")
    assert [len(rows) for rows in taker.batches] == [2, 2, 1]


def test_nothing_is_sent_for_nothing() -> None:
    taker = Taker()
    assert submit_many(connection(taker), [], "k") == []
    assert taker.batches == []


def test_a_refused_one_stands_in_its_place() -> None:
    taker, asked = Taker(), specs(3)
    taker.refused[asked[1].name or ""] = {
        "type": "urn:simyard:problem:conflict",
        "title": "no",
        "status": 409,
        "detail": "Row 2 has the key of row 1.",
        "field": "idempotency_key",
        "fix": "Give it one of its own.",
    }
    first, refused, last = submit_many(connection(taker), asked, "k")
    assert isinstance(first, Task)
    assert isinstance(last, Task)
    assert isinstance(refused, errors.Conflict)
    assert (refused.field, refused.fix) == ("idempotency_key", "Give it one of its own.")


def test_a_repeated_request_doubles_nothing() -> None:
    taker, lost = Taker(), [True]

    def lose_the_first_answer(request: httpx.Request) -> httpx.Response:
        answer = taker(request)
        if lost.pop() if lost else False:
            raise httpx.ReadError("gone")
        return answer

    asked = specs(4)
    found = submit_many(connection(lose_the_first_answer), asked, "k")
    assert names(found) == [spec.name for spec in asked]
    assert len(taker.batches) == 2
    assert len(taker.ids) == 4
    again = submit_many(connection(taker), asked, "k")
    assert [one.id for one in again if isinstance(one, Task)] == [one.id for one in found if isinstance(one, Task)]


def test_a_request_that_is_refused_whole_raises() -> None:
    with pytest.raises(errors.TooLarge):
        submit_many(connection(lambda _: problem(413, "too-large", "It is too large.")), specs(1), "k")


@pytest.mark.parametrize(
    "answer",
    [lambda: b"", lambda: b"<html>\n", lambda: b'{"row": 1}\n', lambda: b'{"results": []}\n' * 2],
    ids=["empty", "html", "neither", "too many"],
)
def test_an_answer_of_another_program_is_not_believed(answer: Callable[[], bytes]) -> None:
    with pytest.raises(errors.SimyardError, match="does not understand"):
        submit_many(connection(lambda _: httpx.Response(200, content=answer())), specs(1), "k")
