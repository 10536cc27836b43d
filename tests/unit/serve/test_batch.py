from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from simyard.errors import SimyardError
from tests.unit.serve.face import Face, problem
from tests.unit.serve.test_submit import BAD

LINES = {"Content-Type": "application/x-ndjson"}
TWO_BAD = {"priority": "high", "metadata": {"a": [1]}}


def items(face: Face, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"spec": face.spec(**change)} for change in changes]


def test_the_good_ones_of_a_batch_are_accepted_and_the_bad_ones_say_why(face: Face) -> None:
    tasks = items(face, {"name": "one"}, {"resources": {"cpus": 99}}, {"priority": "high"}, {"name": "four"})
    answer = face.post("/v1/tasks:batch", json={"tasks": tasks})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["created"] for result in results] == [True, False, False, True]
    assert [result["task"]["name"] for result in results if result["task"]] == ["one", "four"]
    assert [result["problem"]["field"] for result in results if result["problem"]] == ["resources.cpus", "priority"]
    assert face.store.counts()["queued"] == 2
    assert face.waker.count == 1


def test_a_task_of_a_batch_is_refused_in_the_words_in_which_it_would_be_alone(face: Face) -> None:
    bad = items(face, *[changes for changes, _ in BAD], TWO_BAD)
    alone = [problem(face.post("/v1/tasks", json=item["spec"]), 422) for item in bad]
    batches = [
        face.post("/v1/tasks:batch", json={"tasks": bad}),
        face.post("/v1/tasks:batch", content=lines(*bad), headers=LINES),
    ]
    for batch in batches:
        assert [result["problem"] for result in batch.json()["results"]] == alone


@pytest.mark.parametrize("bad", [{"resources": {"cpus": 99}}, {"priority": "high"}])
def test_of_an_atomic_batch_with_a_bad_one_nothing_is_accepted(face: Face, bad: dict[str, Any]) -> None:
    answer = face.post("/v1/tasks:batch", json={"tasks": items(face, {}, bad), "atomic": True})
    results = answer.json()["results"]
    assert [result["created"] for result in results] == [False, False]
    assert results[0]["problem"]["status"] == 409
    assert results[1]["problem"]["field"]
    assert face.store.counts()["queued"] == 0


def test_an_atomic_batch_with_a_conflicting_key_is_kept_out_whole(face: Face) -> None:
    face.post("/v1/tasks", json=face.spec(name="first"), headers={"Idempotency-Key": "k"})
    tasks = [{"spec": face.spec()}, {"spec": face.spec(name="other"), "idempotency_key": "k"}]
    answer = face.post("/v1/tasks:batch", json={"tasks": tasks, "atomic": True})
    assert [result["problem"]["status"] for result in answer.json()["results"]] == [409, 409]
    assert face.store.counts()["queued"] == 1


def test_a_batch_that_is_sent_again_gives_the_same_tasks(face: Face) -> None:
    tasks = [{"spec": face.spec(name=str(i)), "idempotency_key": f"k{i}"} for i in range(3)]
    first = face.post("/v1/tasks:batch", json={"tasks": tasks}).json()["results"]
    again = face.post("/v1/tasks:batch", json={"tasks": tasks}).json()["results"]
    assert [r["task"]["id"] for r in first] == [r["task"]["id"] for r in again]
    assert not any(r["created"] for r in again)


def test_an_item_that_is_no_object_is_refused_alone(face: Face) -> None:
    tasks = [*items(face, {}), 5, {"spec": None}, {"spec": face.spec(), "idempotency_key": "a b"}]
    results = face.post("/v1/tasks:batch", json={"tasks": tasks}).json()["results"]
    assert results[0]["created"]
    assert [result["problem"]["status"] for result in results[1:]] == [422] * 3
    assert results[3]["problem"]["field"] == "idempotency_key"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "tasks"),
        ({"tasks": []}, "tasks"),
        ({"tasks": [{}] * 10_001}, "tasks"),
        ({"tasks": [{}], "atomic": 7}, "atomic"),
    ],
    ids=["absent", "empty", "too many", "atomic"],
)
def test_a_bad_batch_is_refused_whole(face: Face, body: dict[str, Any], field: str) -> None:
    problem(face.post("/v1/tasks:batch", json=body), 422, field)


def lines(*tasks: Any) -> bytes:
    return b"\n".join(task if isinstance(task, bytes) else json.dumps(task).encode() for task in tasks)


def test_every_result_names_its_row(face: Face) -> None:
    tasks = items(face, {}, {"priority": "high"}, {})
    results = face.post("/v1/tasks:batch", json={"tasks": tasks}).json()["results"]
    assert [result["row"] for result in results] == [1, 2, 3]


def test_a_doubled_key_for_another_request_is_refused_by_row_and_a_repetition_is_the_same_task(face: Face) -> None:
    one, other = face.spec(name="one"), face.spec(name="other")
    tasks = [{"spec": spec, "idempotency_key": "k"} for spec in (one, other, one)] + [{"spec": one}]
    first, refused, again, without = face.post("/v1/tasks:batch", json={"tasks": tasks}).json()["results"]
    assert (first["created"], again["created"], without["created"]) == (True, False, True)
    assert first["task"]["id"] == again["task"]["id"] != without["task"]["id"]
    assert (refused["problem"]["status"], refused["problem"]["field"]) == (409, "idempotency_key")
    assert "Row 2 " in refused["problem"]["detail"]
    assert "row 1," in refused["problem"]["detail"]
    assert refused["problem"]["fix"]
    assert face.store.counts()["queued"] == 2


def test_an_atomic_batch_with_a_doubled_key_is_kept_out_whole(face: Face) -> None:
    tasks = [{"spec": face.spec(name=name), "idempotency_key": "k"} for name in ("one", "other")]
    results = face.post("/v1/tasks:batch?atomic=true", json={"tasks": tasks}).json()["results"]
    assert [result["problem"]["status"] for result in results] == [409, 409]
    assert "Row 2 " in results[1]["problem"]["detail"]
    assert face.store.counts()["queued"] == 0
    assert face.waker.count == 0


def test_json_lines_are_taken_and_a_broken_line_is_refused_alone(face: Face) -> None:
    good = [{"spec": face.spec(name=name), "idempotency_key": name} for name in ("one", "two")]
    body = lines(good[0], b"  \r", b'{"spec": ', b"5", {"spec": face.spec(priority="high")}, {"sepc": {}}, good[1])
    answer = face.post("/v1/tasks:batch", content=body + b"\n", headers=LINES)
    results = answer.json()["results"]
    assert [result["row"] for result in results] == [1, 2, 3, 4, 5, 6]
    assert [result["created"] for result in results] == [True, False, False, False, False, True]
    refused = [result["problem"] for result in results[1:5]]
    assert [one["field"] for one in refused] == [None, None, "priority", "spec"]
    assert "line is not valid JSON" in refused[0]["detail"]
    assert all(one["fix"] for one in refused)


def test_atomic_lines_go_in_whole_or_not_at_all(face: Face) -> None:
    good, bad = {"spec": face.spec()}, {"spec": face.spec(priority="high")}
    results = face.post("/v1/tasks:batch?atomic=true", content=lines(good, bad), headers=LINES).json()["results"]
    assert [result["created"] for result in results] == [False, False]
    assert face.store.counts()["queued"] == 0
    results = face.post("/v1/tasks:batch?atomic=true", content=lines(good, good), headers=LINES).json()["results"]
    assert [result["created"] for result in results] == [True, True]


def test_the_answer_comes_as_lines_where_they_are_asked_for(face: Face) -> None:
    headers = LINES | {"Accept": "application/x-ndjson"}
    body = lines({"spec": face.spec(name="größe\n")}, b"{}")
    answer = face.post("/v1/tasks:batch", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, second = (json.loads(line) for line in answer.content.splitlines())
    assert (first["row"], first["task"]["name"], second["problem"]["field"]) == (1, "größe\n", "spec")


@pytest.mark.parametrize("body", [b"", b"\n \n", b"{}\n" * 10_001], ids=["empty", "blank", "too many"])
def test_bad_lines_are_refused_whole(face: Face, body: bytes) -> None:
    assert problem(face.post("/v1/tasks:batch", content=body, headers=LINES), 422, "tasks")["fix"]


def test_a_compressed_batch_is_taken(face: Face) -> None:
    body = gzip.compress(lines(*[{"spec": face.spec()}] * 3))
    answer = face.post("/v1/tasks:batch", content=body, headers=LINES | {"Content-Encoding": "gzip"})
    assert sum(result["created"] for result in answer.json()["results"]) == 3


def test_a_batch_that_grows_too_large_when_it_is_decoded_is_refused(face: Face) -> None:
    bomb = gzip.compress(b" " * 65 * 1024**2, 1)
    assert len(bomb) < 1024**2
    body = problem(face.post("/v1/tasks:batch", content=bomb, headers={"Content-Encoding": "gzip"}), 413)
    assert str(64 * 1024**2) in body["detail"]


def test_a_store_that_is_away_is_said_once_for_all(face: Face) -> None:
    tasks = items(face, {}, {})
    face.post("/v1/tasks:batch", json={"tasks": tasks})

    def submit(*_: Any, **__: Any) -> Any:
        raise SimyardError("The disk is full.")

    face.store.submit = submit  # type: ignore[method-assign]
    problem(face.post("/v1/tasks:batch", json={"tasks": tasks}), 500)


def test_ten_thousand_tasks_go_in_at_once(face: Face) -> None:
    spec = face.spec()
    body = lines(*[{"spec": spec, "idempotency_key": f"k{i}"} for i in range(10_000)])
    answer = face.post("/v1/tasks:batch", content=body, headers=LINES)
    assert sum(result["created"] for result in answer.json()["results"]) == 10_000


def test_a_thousand_tasks_go_in_at_once(face: Face) -> None:
    tasks = [{"spec": face.spec()}] * 1000
    answer = face.post("/v1/tasks:batch", json={"tasks": tasks, "atomic": True})
    assert sum(result["created"] for result in answer.json()["results"]) == 1000
