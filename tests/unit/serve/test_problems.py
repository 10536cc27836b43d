from __future__ import annotations

from typing import Any

import pytest

from simyard.errors import Unavailable
from tests.unit.serve.face import Face, problem


def test_an_unknown_address_is_a_problem(face: Face) -> None:
    assert "GET /v1/nothing" in problem(face.get("/v1/nothing"), 404)["detail"]


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(face: Face) -> None:
    answer = face.request("DELETE", "/v1/tasks")
    problem(answer, 405)
    assert answer.headers["allow"]


@pytest.mark.parametrize("task", ["t000000000000", "x", "t3k9x0m2v7q4a:cancel", "%2e%2e", "t%00", "ü", "t" * 5000])
def test_a_task_that_does_not_exist_is_a_problem(face: Face, task: str) -> None:
    problem(face.get(f"/v1/tasks/{task}"), 404)


def test_an_unexpected_error_shows_a_reference_and_nothing_else(
    face: Face, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(face.store, "list", broken)
    body = problem(face.get("/v1/tasks"), 500)
    assert "hunter2" not in str(body)
    reference = body["fix"].split()[-1].rstrip(".")
    assert reference in caplog.text
    assert "hunter2" in caplog.text


def test_a_store_that_cannot_be_reached_asks_to_come_again(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise Unavailable("The disk is full.")

    monkeypatch.setattr(face.store, "list", gone)
    answer = face.get("/v1/tasks")
    problem(answer, 503)
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=%C3%BC", "cursor"),
        ("cursor=Mjox", "cursor"),
        ("status=done", "status"),
        ("status=queued,,failed", "status"),
        ("status=", "status"),
        ("name=" + "n" * 201, "name"),
    ],
)
def test_a_bad_filter_is_refused_by_its_name(face: Face, query: str, field: str) -> None:
    problem(face.get(f"/v1/tasks?{query}"), 422, field)


def test_a_bad_status_gets_the_allowed_ones(face: Face) -> None:
    assert "timed-out" in problem(face.get("/v1/tasks?status=done"), 422)["fix"]


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("logs?stream=both", "stream"),
        ("logs?offset=-1", "offset"),
        ("logs?offset=x", "offset"),
        ("logs?follow=perhaps", "follow"),
        ("logs?attempt=0", "attempt"),
        ("events?after=-1", "after"),
        ("events?after=99999999999999999999", "after"),
        ("outputs?attempt=one", "attempt"),
        ("files/content", "path"),
        ("files/content?path=a&offset=-1", "offset"),
        ("files/content?path=a&limit=-1", "limit"),
        ("files/content?path=../a", "path"),
        ("files/content?path=/etc/passwd", "path"),
        ("files/content?path=", "path"),
        ("files/content?path=a%00b", "path"),
        ("outputs/content?path=../../etc/passwd", "path"),
        ("outputs/content?path=.simyard/../x", "path"),
        ("tables/summary?format=xml", "format"),
    ],
)
def test_a_bad_parameter_is_refused_by_its_name(face: Face, url: str, field: str) -> None:
    problem(face.get(f"/v1/tasks/{face.submit()}/{url}"), 422, field)


def test_a_bad_event_id_to_resume_from_is_refused(face: Face) -> None:
    answer = face.get(f"/v1/tasks/{face.submit()}/events", headers={"Last-Event-ID": "x"})
    problem(answer, 422, "Last-Event-ID")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metadata": {"a": [1]}}, "It must be a text, a finite number, true or false, and not [1]."),
        ({"parameters": {"input_file": None}}, "It must be a text, a finite number, true or false, and not null."),
        ({"commands": [{"argv": []}]}, "It has 0 items."),
        ({"metadata": {f"m{i}": i for i in range(101)}}, "It has too many items."),
        ({"priority": "x", "name": "", "retries": -1}, "2 more fields are wrong."),
    ],
)
def test_a_complaint_speaks_of_the_request_and_not_of_types_in_the_server(
    face: Face, changes: dict[str, Any], words: str
) -> None:
    assert words in problem(face.post("/v1/tasks", json=face.spec(**changes)), 422)["detail"]
