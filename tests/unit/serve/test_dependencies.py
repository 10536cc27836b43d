"""Tasks that wait for others, over HTTP."""

from __future__ import annotations

from typing import Any

from simyard.status import Status
from tasks.lifecycle import Cancel
from tests.unit.serve.face import Face


def refused(face: Face, **changes: Any) -> tuple[str | None, str]:
    answer = face.post("/v1/tasks", json=face.spec(**changes))
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["fix"]
    return problem["field"], problem["detail"]


def test_a_task_waits_for_another_and_says_so(face: Face) -> None:
    first = face.submit()
    second = face.submit(after=[first])
    task = face.get(f"/v1/tasks/{second}").json()
    assert task["status"] == "waiting"
    assert task["after"] == [{"task": first, "key": None, "end": "success"}]
    said = face.get(f"/v1/tasks/{second}/explain").json()
    assert said["summary"] == f"It waits for {first}, which is queued."


def test_a_held_task_says_how_it_goes_on(face: Face) -> None:
    first = face.submit()
    second = face.submit(after=[first], if_dependency_fails="hold")
    face.post(f"/v1/tasks/{first}:cancel")
    face.store.settle(face.clock.now, 10)
    said = face.get(f"/v1/tasks/{second}/explain").json()
    assert f"simyard tasks release {second}" in said["next"]
    assert first in said["summary"]
    assert face.post(f"/v1/tasks/{second}:release").json()["status"] == "queued"


def test_unknown_and_other_peoples_tasks_are_the_same(face: Face) -> None:
    first = face.submit()
    record = face.store.get(first)
    assert refused(face, after=["t000000000000"])[0] == "after.0.task"
    assert "no task" in refused(face, after=["t000000000000"])[1]
    assert face.store.named("bob", record.task.after) == {}
    assert refused(face, after=[{"key": "nobody"}])[0] == "after.0.key"


def test_an_unknown_task_is_told_before_files_are_asked_for(face: Face) -> None:
    missing = [file | {"sha256": "0" * 64} for file in face.spec()["inputs"]]
    assert refused(face, after=["t000000000000"], inputs=missing)[0] == "after.0.task"
    assert refused(face, after=[face.submit()], inputs=missing)[0] == "inputs"
    # Whoever has this key may come with the same request, once the files are there.
    assert refused(face, after=[{"key": "nobody"}], inputs=missing)[0] == "inputs"


def test_what_cannot_be_meant_is_refused_with_its_field(face: Face) -> None:
    first = face.submit()
    assert refused(face, after=["mesh"])[0] == "after.0"
    assert refused(face, after=[{"task": first, "end": "failure"}])[0] == "after.0.end"
    assert refused(face, after=[{"task": first, "key": "k"}])[0] == "after.0"
    assert refused(face, after=[first, first])[0] == "after"
    assert refused(face, if_dependency_fails="hold")[0] == "if_dependency_fails"
    inputs = face.spec()["inputs"]
    assert refused(face, inputs=[*inputs, {"task": first}])[0] == "inputs.1.path"
    assert refused(face, inputs=[*inputs, {"task": first, "path": "*", "into": "../up"}])[0] == "inputs.1.into"


def test_an_input_file_may_come_from_another_task(face: Face) -> None:
    first = face.submit()
    field, _ = refused(face, parameters={"input_file": "made.inp"})
    assert field == "parameters.input_file"
    second = face.submit(
        inputs=[{"task": first, "path": "*.inp", "into": "in"}], parameters={"input_file": "in/made.inp"}
    )
    assert face.store.get(second).status is Status.WAITING
    assert face.store.inputs(second) == ()


def test_rows_of_a_batch_name_each_other_by_key(face: Face) -> None:
    tasks = [
        {"spec": face.spec(after=[{"key": "b"}]), "idempotency_key": "a"},
        {"spec": face.spec(), "idempotency_key": "b"},
        {"spec": face.spec(after=[{"key": "d"}]), "idempotency_key": "c"},
        {"spec": face.spec(after=[{"key": "c"}]), "idempotency_key": "d"},
        {"spec": face.spec(after=[{"key": "gone"}])},
    ]
    results = face.post("/v1/tasks:batch", json={"tasks": tasks}).json()["results"]
    assert [result["created"] for result in results] == [True, True, False, False, False]
    assert results[0]["task"]["after"][0]["task"] == results[1]["task"]["id"]
    assert "c → d → c" in results[2]["problem"]["detail"]
    assert results[4]["row"] == 5
    assert results[4]["problem"]["field"] == "after.0.key"


def test_a_cancel_reaches_those_that_wait(face: Face) -> None:
    first = face.submit()
    second = face.submit(after=[first])
    face.store.apply(first, Cancel(), face.clock.now)
    face.store.settle(face.clock.now, 10)
    task = face.get(f"/v1/tasks/{second}").json()
    assert (task["status"], task["reason"]["code"]) == ("failed", "dependency-failed")
