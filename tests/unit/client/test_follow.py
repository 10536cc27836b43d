from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simyard import errors
from simyard.event import LogStream
from simyard.follow import follow_log
from simyard.handle import Task
from simyard.status import Status
from simyard.task import Task as TaskInfo
from tests.unit.client.wire import Clock, connection

ID = "t0123456789ab"
AT = "2026-03-01T12:00:00Z"


def info(status: str = "running", attempts: int = 1) -> dict[str, Any]:
    return {
        "id": ID,
        "name": None,
        "project": "default",
        "simulator": "swmm",
        "version": "5.2",
        "runtime": None,
        "status": status,
        "reason": None,
        "parameters": {},
        "commands": [],
        "resources": {},
        "limits": {},
        "group": "local",
        "priority": 0,
        "metadata": {},
        "created_at": AT,
        "started_at": None,
        "ended_at": None,
        "cancel_requested": False,
        "attempts": [{"number": n, "machine": "m", "created_at": AT} for n in range(1, attempts + 1)],
        "result": None,
    }


class _Stream(httpx.SyncByteStream):
    def __init__(self, steps: list[bytes | Exception]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            yield step


class Script:
    """Answers each request for events or logs with the next step; a task request with the status as it is then."""

    def __init__(self, *steps: tuple[str, list[bytes | Exception]] | httpx.Response) -> None:
        self._steps = list(steps)
        self.status, self.attempts = "queued", 1
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == f"/v1/tasks/{ID}":
            return httpx.Response(200, json=info(self.status, self.attempts))
        self.asked.append(request)
        step = self._steps.pop(0) if self._steps else httpx.Response(503)
        if isinstance(step, httpx.Response):
            return step
        self.status = step[0]
        return httpx.Response(200, headers={"Simyard-Attempt": str(self.attempts)}, stream=_Stream(step[1]))


def event(seq: int, status: str) -> bytes:
    data = {"seq": seq, "task": ID, "at": AT, "kind": "status", "status": status, "new": 1}
    return f"id: {seq}\nevent: status\ndata: {json.dumps(data)}\n\n".encode()


def task(script: Script, clock: Clock | None = None) -> Task:
    return Task(connection(script, clock), TaskInfo.model_validate(info()))


def test_events_come_once_each_through_breaks_and_odd_pieces() -> None:
    first = event(1, "queued") + b": still here\n\n" + event(2, "preparing")
    pieces: list[bytes | Exception] = [first[i : i + 7] for i in range(0, len(first), 7)]
    script = Script(
        ("preparing", [b"retry: 1000\n\n", *pieces, event(3, "running")[:20], httpx.ReadError("gone")]),
        httpx.Response(503),
        ("running", [event(2, "preparing"), event(3, "running")]),
        ("succeeded", [event(4, "finalizing"), b'data: {"kind": "of tomorrow"}\n\n', event(5, "succeeded")]),
    )
    assert [one.seq for one in task(script).events(follow=True)] == [1, 2, 3, 4, 5]
    assert [request.headers["Last-Event-ID"] for request in script.asked] == ["0", "2", "2", "3"]


def test_wait_tells_every_event_and_how_it_ended() -> None:
    script = Script(("succeeded", [event(1, "queued"), event(2, "succeeded")]))
    told: list[Status] = []
    handle = task(script)
    assert handle.wait(on_event=lambda one: told.append(one.status)) is Status.SUCCEEDED
    assert told == [Status.QUEUED, Status.SUCCEEDED]
    assert handle.status is Status.SUCCEEDED


def test_wait_for_a_task_that_has_ended_asks_for_no_events() -> None:
    script = Script()
    script.status = "failed"
    assert task(script).wait() is Status.FAILED
    assert not script.asked


def test_wait_gives_up_in_time_and_says_that_the_task_goes_on() -> None:
    script = Script(*[("running", [httpx.ReadTimeout("silence")]) for _ in range(1000)])
    with pytest.raises(errors.StillGoing, match=r"still running.*simyard tasks wait t0123456789ab") as caught:
        task(script).wait(timeout=0.05)
    assert isinstance(caught.value, TimeoutError)


def test_wait_ends_when_the_server_is_away_for_long() -> None:
    clock = Clock()
    script = Script(("queued", [event(1, "queued")]))
    with pytest.raises(errors.Unavailable):
        task(script, clock).wait()
    assert 55 < sum(clock.pauses) < 70


def test_a_log_is_resumed_at_the_byte_where_it_broke() -> None:
    script = Script(
        ("running", [b"abc", httpx.ReadError("gone")]),
        httpx.Response(502),
        ("running", [b"de\xff", httpx.RemoteProtocolError("cut")]),
        ("succeeded", [b"f"]),
        ("succeeded", [b"tail"]),
    )
    assert b"".join(task(script).logs()) == b"abcde\xffftail"
    assert [request.url.params["offset"] for request in script.asked] == ["0", "3", "3", "6", "7"]
    assert [request.url.params["follow"] for request in script.asked] == ["true"] * 4 + ["false"]
    assert [request.url.params.get("attempt") for request in script.asked] == [None, "1", "1", "1", "1"]


def test_a_silent_simulation_is_waited_for_without_end() -> None:
    script = Script(*[("running", [httpx.ReadTimeout("")])] * 500, ("succeeded", [b"at last"]), ("succeeded", []))
    assert b"".join(task(script, Clock()).logs()) == b"at last"


def test_the_log_of_the_next_attempt_follows_a_lost_one() -> None:
    script = Script(("queued", [b"first"]), ("succeeded", [b"second"]), ("succeeded", []))
    gave = follow_log(connection(script), ID, LogStream.STDOUT, follow=True)
    assert next(gave) == b"first"
    script.attempts = 2
    assert b"".join(gave) == b"second"
    assert [(r.url.params.get("attempt"), r.url.params["offset"]) for r in script.asked] == [
        (None, "0"),
        ("2", "0"),
        ("2", "6"),
    ]


def test_without_follow_it_is_what_is_there_now() -> None:
    script = Script(("running", [b"so far"]))
    assert b"".join(task(script).logs(follow=False, stream="stderr")) == b"so far"
    assert script.asked[0].url.params["stream"] == "stderr"


def test_there_are_only_two_logs() -> None:
    with pytest.raises(errors.InvalidInput, match="stdout or stderr"):
        task(Script()).logs(stream="stdin")


def test_a_task_that_does_not_exist_is_not_asked_for_again() -> None:
    script = Script(httpx.Response(404))
    with pytest.raises(errors.NotFound):
        list(task(script).logs())
    assert len(script.asked) == 1
