from __future__ import annotations

from pathlib import Path

import pytest

from simyard.event import LogStream
from simyard.status import Status
from tests.unit.serve.face import Face, problem

TEXT = "größe\r50%\n".encode() * 100_000 + b"\xff\x00 no newline at the end"


@pytest.fixture
def running(face: Face) -> str:
    task = face.submit()
    face.run(task)
    face.live.logs[task, 1, LogStream.STDOUT] = TEXT
    return task


def test_a_running_tasks_log_is_what_it_has_printed_so_far(face: Face, running: str) -> None:
    answer = face.get(f"/v1/tasks/{running}/logs")
    assert answer.content == TEXT
    assert answer.headers["simyard-attempt"] == "1"
    assert answer.headers["content-type"] == "text/plain"
    assert face.get(f"/v1/tasks/{running}/logs?stream=stderr").content == b""


@pytest.mark.parametrize("offset", [0, 1, 999_999, len(TEXT) - 1, len(TEXT), len(TEXT) + 5])
def test_offsets_mean_the_same_before_and_after_the_end(face: Face, running: str, tmp_path: Path, offset: int) -> None:
    url = f"/v1/tasks/{running}/logs?offset={offset}"
    live = face.get(url).content
    face.store_files(running, tmp_path, {}, {"stdout.log": TEXT, "stderr.log": b"e"})
    face.end(running)
    assert face.get(url).content == live == TEXT[offset:]
    assert face.get(url + "&follow=true").content == live


def test_a_followed_log_ends_when_the_holder_says_so(face: Face, running: str) -> None:
    face.live.ended.add((running, 1))
    assert face.get(f"/v1/tasks/{running}/logs?follow=true").content == TEXT


def test_a_task_that_never_ran_has_no_log(face: Face) -> None:
    task = face.submit()
    answer = face.get(f"/v1/tasks/{task}/logs")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "simyard-attempt" not in answer.headers
    face.post(f"/v1/tasks/{task}:cancel")
    assert face.get(f"/v1/tasks/{task}/logs?follow=true").content == b""
    problem(face.get(f"/v1/tasks/{task}/logs?attempt=1"), 404, "attempt")


def test_each_attempt_has_its_own_log(face: Face, running: str, tmp_path: Path) -> None:
    face.lose(running)
    assert face.get(f"/v1/tasks/{running}/logs").content == b""
    face.run(running)
    face.live.logs[running, 2, LogStream.STDOUT] = b"second"
    answer = face.get(f"/v1/tasks/{running}/logs")
    assert (answer.content, answer.headers["simyard-attempt"]) == (b"second", "2")
    assert face.get(f"/v1/tasks/{running}/logs?attempt=1").content == b""
    problem(face.get(f"/v1/tasks/{running}/logs?attempt=3"), 404, "attempt")
    face.store_files(running, tmp_path, {}, {"stdout.log": b"second"})
    face.end(running, Status.FAILED)
    assert face.get(f"/v1/tasks/{running}/logs").content == b"second"


def test_a_holder_that_is_gone_gives_what_is_there(face: Face, running: str) -> None:
    face.live.files.clear()
    assert face.get(f"/v1/tasks/{running}/logs").content == b""
