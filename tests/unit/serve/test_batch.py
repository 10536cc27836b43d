from __future__ import annotations

from typing import Any

import pytest

from tests.unit.serve.face import Face, problem


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
        ({"tasks": [{}] * 1001}, "tasks"),
        ({"tasks": [{}], "atomic": 7}, "atomic"),
    ],
    ids=["absent", "empty", "too many", "atomic"],
)
def test_a_bad_batch_is_refused_whole(face: Face, body: dict[str, Any], field: str) -> None:
    problem(face.post("/v1/tasks:batch", json=body), 422, field)


def test_a_thousand_tasks_go_in_at_once(face: Face) -> None:
    answer = face.post("/v1/tasks:batch", json={"tasks": [{"spec": face.spec()}] * 1000, "atomic": True})
    assert sum(result["created"] for result in answer.json()["results"]) == 1000
