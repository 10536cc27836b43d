from __future__ import annotations

import gzip
import json
from codecs import BOM_UTF8
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serve.admission import digest_of
from simyard.group import MachineGroup
from simyard.task import Task
from tests.unit.serve.face import GIB, INP, Face, machine, problem, sha256_of
from tests.unit.tasks.samples import draft


def test_a_good_task_is_stored_with_version_runtime_and_commands_and_the_dispatcher_is_woken(face: Face) -> None:
    answer = face.post("/v1/tasks", json=face.spec(name="a storm", resources={"memory": "2GiB"}, limits={"run": "10m"}))
    assert answer.status_code == 201
    task = Task.model_validate_json(answer.content)
    assert answer.headers["location"] == f"/v1/tasks/{task.id}"
    assert (task.version, task.runtime) == ("5.2.4", "native")
    assert task.commands[0].argv == ("runswmm", "town.inp")
    assert (task.resources.memory, task.limits.run) == (2 * GIB, 600.0)
    assert face.store.get(task.id).user == "ada"
    assert face.waker.count == 1


def test_the_content_type_does_not_matter(face: Face) -> None:
    answer = face.post("/v1/tasks", content=json.dumps(face.spec()), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 201


def test_a_byte_order_mark_before_the_json_is_left_out(face: Face) -> None:
    body = BOM_UTF8 + json.dumps(face.spec()).encode()
    assert face.post("/v1/tasks", content=body).status_code == 201
    packed = {"Content-Encoding": "gzip"}
    assert face.post("/v1/tasks", content=gzip.compress(body), headers=packed).status_code == 201
    lines = BOM_UTF8 + json.dumps({"spec": face.spec()}).encode() + b"\n"
    answer = face.post("/v1/tasks:batch", content=lines, headers={"Content-Type": "application/x-ndjson"})
    [result] = answer.json()["results"]
    assert result["task"]["status"] == "queued"


def test_a_repeated_request_gives_the_same_task_however_it_is_spelled(face: Face) -> None:
    headers = {"Idempotency-Key": "storm-1"}
    first = face.post("/v1/tasks", json=face.spec(resources={"memory": "1GiB"}), headers=headers)
    again = face.post("/v1/tasks", json=face.spec(resources={"memory": 1024**3}), headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]


def test_a_key_that_was_used_for_another_request_is_a_conflict(face: Face) -> None:
    headers = {"Idempotency-Key": "storm-1"}
    face.post("/v1/tasks", json=face.spec(), headers=headers)
    problem(face.post("/v1/tasks", json=face.spec(name="other"), headers=headers), 409)


def test_a_default_that_is_said_does_not_make_it_another_request(face: Face) -> None:
    headers = {"Idempotency-Key": "storm-1"}
    first = face.post("/v1/tasks", json=face.spec(), headers=headers)
    said = face.spec(retries=0, limits={"queue": None}, retry={"on": None})
    again = face.post("/v1/tasks", json=said, headers=headers)
    assert (first.json()["id"], again.status_code) == (again.json()["id"], 200)
    other = face.spec(limits={"queue": 60})
    problem(face.post("/v1/tasks", json=other, headers=headers), 409)


def test_the_nearest_reason_is_named_where_one_is_misspelled(face: Face) -> None:
    body = problem(face.post("/v1/tasks", json=face.spec(retries=1, retry={"on": ["out-of-memry"]})), 422)
    assert (body["field"], body["fix"]) == ("retry.on.0", "The nearest is out-of-memory.")


def test_the_same_key_of_another_user_is_another_task(face: Face) -> None:
    headers = {"Idempotency-Key": "storm-1"}
    first = face.post("/v1/tasks", json=face.spec(), headers=headers)
    second = face.post("/v1/tasks", json=face.spec(), headers=headers, key=face.add_key("bob"))
    assert second.status_code == 201
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 201, "two words", "umlaut-\xe4", "tab\t"])
def test_an_idempotency_key_has_1_to_200_visible_characters(face: Face, key: str) -> None:
    answer = face.post("/v1/tasks", json=face.spec(), headers={"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    problem(answer, 422, "Idempotency-Key")


H = sha256_of(INP)
FILE = {"path": "town.inp", "sha256": H, "size": len(INP)}
BAD: list[tuple[dict[str, Any], str | None]] = [
    ({"simulator": 5}, "simulator"),
    ({"simulator": "swim"}, "simulator"),
    ({"simulator": "no such/thing"}, "simulator"),
    ({"version": 5.2}, "version"),
    ({"version": "1.0"}, "version"),
    ({"runtime": "chroot"}, "runtime"),
    ({"parameters": []}, "parameters"),
    ({"parameters": {"input_file": None}}, "parameters.input_file"),
    ({"parameters": {"input_file": ["town.inp"]}}, "parameters.input_file"),
    ({"parameters": {"input_file": 3}}, "parameters.input_file"),
    ({"parameters": {"input_file": "other.inp"}}, "parameters.input_file"),
    ({"parameters": {"input_file": "../town.inp"}}, "parameters.input_file"),
    ({"parameters": {"inputfile": "town.inp"}}, "parameters.inputfile"),
    ({"parameters": {}}, "parameters.input_file"),
    ({"commands": "runswmm"}, "commands"),
    ({"commands": [{"argv": []}]}, "commands.0.argv"),
    ({"commands": [{"argv": ["a\0b"]}]}, "commands.0"),
    ({"commands": [{"argv": ["ok"], "shell": True}]}, "commands.0.shell"),
    ({"commands": [{"argv": ["ok"], "stdin": 3}]}, "commands.0.stdin"),
    ({"commands": [{"argv": ["ok"], "environment": {"A": 1}}]}, "commands.0.environment.A"),
    ({"inputs": []}, "inputs"),
    ({"inputs": {"path": "town.inp"}}, "inputs"),
    ({"inputs": [FILE | {"path": "/etc/passwd"}]}, "inputs.0.path"),
    ({"inputs": [FILE | {"path": "a/../b"}]}, "inputs.0.path"),
    ({"inputs": [FILE | {"path": ".simyard/x"}]}, "inputs.0.path"),
    ({"inputs": [FILE | {"sha256": "abc"}]}, "inputs.0.sha256"),
    ({"inputs": [FILE | {"size": -1}]}, "inputs.0.size"),
    ({"inputs": [FILE | {"size": 99}]}, "inputs.0.size"),
    ({"inputs": [FILE | {"mode": 0o4755}]}, "inputs.0.mode"),
    ({"inputs": [FILE, FILE]}, "inputs"),
    ({"inputs": [FILE, FILE | {"path": "town.inp/x"}]}, "inputs"),
    ({"inputs": [FILE, FILE | {"path": "rain.dat", "sha256": "0" * 64}]}, "inputs"),
    ({"resources": {"cpus": "many"}}, "resources.cpus"),
    ({"resources": {"cpus": 0}}, "resources.cpus"),
    ({"resources": {"cpus": 5}}, "resources.cpus"),
    ({"resources": {"memory": "2 gigs"}}, "resources.memory"),
    ({"resources": {"memory": "1TiB"}}, "resources.memory"),
    ({"resources": {"gpus": 1}}, "resources.gpus"),
    ({"resources": {"gpus": 0.5}}, "resources.gpus"),
    ({"resources": {"disk": -1}}, "resources.disk"),
    ({"resources": {"cpu": 1}}, "resources.cpu"),
    ({"limits": {"run": "soon"}}, "limits.run"),
    ({"limits": {"run": 0}}, "limits.run"),
    ({"group": "nowhere"}, "group"),
    ({"group": "a b"}, "group"),
    ({"priority": 101}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"name": ""}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"project": "my project"}, "project"),
    ({"metadata": {"a": {}}}, "metadata.a"),
    ({"metadata": {"bad key": 1}}, "metadata.bad key"),
    ({"retries": -1}, "retries"),
    ({"retry": 1}, "retry"),
    ({"retry": {"on": ["signal"]}}, "retries"),
    ({"retries": 1, "retry": {"on": []}}, "retry.on"),
    ({"retries": 1, "retry": {"on": "signal"}}, "retry.on"),
    ({"retries": 1, "retry": {"on": ["signal", "out-of-memry"]}}, "retry.on.1"),
    ({"retries": 1, "retry": {"on": ["exit-code:256"]}}, "retry.on.0"),
    ({"retries": 1, "retry": {"memory": "1GiB"}}, "retry"),
    ({"retries": 1, "retry": {"memory": "1TiB"}}, "retry.memory"),
    ({"limits": {"queue": -1}}, "limits.queue"),
    ({"limits": {"queue": 1e300}}, "limits.queue"),
    ({"limits": {"staging": 0}}, "limits.staging"),
    ({"limits": {"upload": "never"}}, "limits.upload"),
    ({"limits": {"stall": True}}, "limits.stall"),
    ({"checkpoint": {}}, "checkpoint.files"),
    ({"checkpoint": {"files": ["a/../b"]}}, "checkpoint.files.0"),
    ({"checkpoint": {"files": ["a"], "every": 9}}, "checkpoint.every"),
    ({"checkpoint": {"files": ["a"], "resume": [{"argv": [" "]}]}}, "checkpoint.resume.0.argv"),
    (
        {"runtime": "native", "checkpoint": {"files": ["a"], "resume": [{"argv": ["x"], "shell": True}]}},
        "checkpoint.resume.0.shell",
    ),
    ({"limits": {"end_stalled": True}}, "limits"),
]


@pytest.mark.parametrize(("changes", "field"), BAD, ids=lambda value: str(value)[:60])
def test_a_bad_field_is_refused_by_its_name_with_a_fix_and_leaves_nothing_behind(
    face: Face, changes: dict[str, Any], field: str | None
) -> None:
    answer = face.post("/v1/tasks", json=face.spec(**changes))
    body = problem(answer, 422, field)
    assert body["fix"]
    assert not face.store.counts()["queued"]
    assert face.waker.count == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"simulator": "\\ud800"}',
        b'{"priority": NaN}',
        b"[" * 100_000,
        b'{"priority": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_task_is_refused(face: Face, body: bytes) -> None:
    problem(face.post("/v1/tasks", content=body), 422)


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_refused(face: Face, text: bytes) -> None:
    body = json.dumps(face.spec(metadata={"x": "HERE"})).encode().replace(b'"HERE"', text)
    problem(face.post("/v1/tasks", content=body), 422, "metadata.x")


def test_the_nearest_names_are_suggested(face: Face) -> None:
    assert "swmm" in problem(face.post("/v1/tasks", json=face.spec(simulator="swm")), 422)["fix"]
    assert "input_file" in problem(face.post("/v1/tasks", json=face.spec(parameters={"inputfile": "x"})), 422)["fix"]
    assert "retries" in problem(face.post("/v1/tasks", json=face.spec(retrie=1)), 422)["fix"]
    assert "cpus" in problem(face.post("/v1/tasks", json=face.spec(resources={"cpu": 1})), 422)["fix"]


def test_missing_files_are_named_and_bounded(face: Face) -> None:
    files = [{"path": f"mesh {i} ä\n.dat", "sha256": f"{i:064x}", "size": 1} for i in range(8)]
    body = problem(face.post("/v1/tasks", json=face.spec(inputs=[FILE, *files])), 422, "inputs")
    assert "mesh 0" in body["detail"]
    assert "and 3 more" in body["detail"]
    assert "negotiate" in body["fix"]


def test_a_group_without_machines_and_unknown_groups_accept_what_may_fit_later(face: Face) -> None:
    face.groups = (MachineGroup(name="local"), MachineGroup(name="big", machines=()))
    assert face.post("/v1/tasks", json=face.spec(resources={"cpus": 512}, group="big")).status_code == 201


def test_resources_must_fit_one_machine_together(face: Face) -> None:
    machines = (machine("fat", cpus=2, memory=64 * GIB), machine("wide", cpus=32, memory=4 * GIB))
    face.groups = (MachineGroup(name="local", machines=machines),)
    resources = {"cpus": 16, "memory": "16GiB"}
    problem(face.post("/v1/tasks", json=face.spec(resources=resources)), 422, "resources")
    assert face.post("/v1/tasks", json=face.spec(resources={"cpus": 16})).status_code == 201


def test_two_clients_at_once_with_the_same_key_get_one_task(face: Face) -> None:
    # Each with an application of its own, like two replicas over one store.
    spec = face.spec()
    others = [Face(store=face.store, storage=face.storage) for _ in range(4)]

    def submit(other: Face) -> tuple[int, str]:
        answer = other.post("/v1/tasks", json=spec, headers={"Idempotency-Key": "once"})
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(submit, others))
    for other in others:
        other._runner.close()
    assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
    assert len({task for _, task in answers}) == 1


def test_a_body_over_the_limit_is_refused_by_its_header(face: Face) -> None:
    answer = face.post("/v1/tasks", content=b"{}", headers={"Content-Length": str(33 * 1024**2)})
    problem(answer, 413)


def test_a_body_over_the_limit_is_refused_by_count(face: Face) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 1024**2

    problem(face.post("/v1/tasks", content=endless()), 413)


def test_a_task_that_lacks_only_its_files_is_told_from_one_that_is_wrong(face: Face) -> None:
    never_sent = [{"path": "town.inp", "sha256": sha256_of(b"never sent"), "size": 10}]
    lacking = problem(face.post("/v1/tasks", json=face.spec(inputs=never_sent)), 422, "inputs")
    assert lacking["type"] == "urn:simyard:problem:inputs-missing"
    problem(face.post("/v1/tasks", json=face.spec(inputs=never_sent, version="9")), 422, "version")
    assert face.get("/v1/tasks").json()["tasks"] == []
    assert face.waker.count == 0


def test_the_digests_of_earlier_requests_stay_as_they_are() -> None:
    kept = "ba54dbf018b17ada4a1ec1077eb31614fb56c612cb0bec6ae0df4cab79aac6bc"
    assert digest_of(draft(name="Zürich", retries=2).spec) == kept


def test_more_disk_than_any_machine_can_keep_is_refused_and_the_default_asks_for_none(face: Face) -> None:
    small = machine("m1").model_copy(update={"disk": 15 * GIB, "disk_free": 0})
    face.groups = (MachineGroup(name="local", machines=(small,)),)
    body = problem(face.post("/v1/tasks", json=face.spec(resources={"disk": "16GiB"})), 422, "resources.disk")
    assert "17179869184 bytes of disk are more than the largest machine of group local can keep" in body["detail"]
    assert "choose another group" in body["fix"]
    for resources in ({"disk": "15GiB"}, {}, {"disk": "20GiB"}):
        assert face.post("/v1/tasks", json=face.spec(resources=resources)).status_code == 201


def test_a_machine_that_has_not_said_what_disk_it_has_may_have_enough(face: Face) -> None:
    small = machine("m1").model_copy(update={"disk": 15 * GIB, "disk_free": 0})
    face.groups = (MachineGroup(name="local", machines=(small, machine("m2"))),)
    assert face.post("/v1/tasks", json=face.spec(resources={"disk": "1TiB"})).status_code == 201


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"resources": {"cpus": 2}}, "resources.cpus"),
        ({"resources": {"memory": "2GiB"}}, "resources.memory"),
        ({"resources": {"gpus": 1}}, "resources.gpus"),
        ({"retries": 1, "retry": {"memory": "2GiB"}}, "retry.memory"),
    ],
    ids=str,
)
def test_a_whole_machine_gives_all_that_it_has_and_nothing_else_is_asked_for_beside_it(
    face: Face, fields: dict[str, Any], field: str
) -> None:
    spec = face.spec(**fields)
    spec.setdefault("resources", {})["whole_machine"] = True
    body = problem(face.post("/v1/tasks", json=spec), 422, field)
    assert "whole machine" in body["detail"]
    assert body["fix"].startswith("Leave ")


def test_a_whole_machine_may_be_small_and_needs_the_disk_that_is_asked_for(face: Face) -> None:
    tiny = machine("m1", cpus=0.5, memory=GIB // 2).model_copy(update={"disk": 15 * GIB, "disk_free": 0})
    face.groups = (MachineGroup(name="local", machines=(tiny,)),)
    answer = face.post("/v1/tasks", json=face.spec(resources={"whole_machine": True}))
    assert answer.status_code == 201
    assert face.store.get(answer.json()["id"]).task.resources.whole_machine
    spec = face.spec(resources={"whole_machine": True, "disk": "16GiB"})
    problem(face.post("/v1/tasks", json=spec), 422, "resources.disk")


def test_a_task_over_several_machines_runs_in_containers_on_as_many_as_its_group_can_have(face: Face) -> None:
    two = (machine("m1", cpus=4), machine("m2", cpus=4))
    face.groups = (MachineGroup(name="local", machines=two), MachineGroup(name="many", machines=two, min=0, max=8))

    def asked(count: int, group: str = "local", **more: Any) -> Any:
        spec = face.spec(resources={"machines": count}, group=group) | more
        return face.post("/v1/tasks", json={name: value for name, value in spec.items() if value is not None})

    answer = asked(2, runtime=None)
    assert (answer.status_code, answer.json()["runtime"]) == (201, "podman")
    assert asked(8, "many", runtime=None).status_code == 201
    for count, group in ((3, "local"), (9, "many")):
        body = problem(asked(count, group, runtime=None), 422, "resources.machines")
        assert "that are large enough" in body["detail"]
    assert "native" in problem(asked(2, runtime="native"), 422, "runtime")["detail"]
