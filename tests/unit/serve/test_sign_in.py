from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from tests.unit.serve.face import START, Face, problem

CLOSED = [
    ("GET", "/v1/tasks"),
    ("POST", "/v1/tasks"),
    ("POST", "/v1/tasks:batch"),
    ("GET", "/v1/tasks/t000000000000"),
    ("POST", "/v1/tasks/t000000000000:cancel"),
    ("POST", "/v1/tasks/t000000000000:hold"),
    ("POST", "/v1/tasks/t000000000000:release"),
    ("POST", "/v1/tasks/t000000000000:checkpoint"),
    ("GET", "/v1/tasks/t000000000000/explain"),
    ("GET", "/v1/tasks/t000000000000/events"),
    ("GET", "/v1/tasks/t000000000000/logs"),
    ("GET", "/v1/tasks/t000000000000/files"),
    ("GET", "/v1/tasks/t000000000000/files/content?path=x"),
    ("GET", "/v1/tasks/t000000000000/samples"),
    ("GET", "/v1/tasks/t000000000000/outputs"),
    ("DELETE", "/v1/tasks/t000000000000/outputs"),
    ("GET", "/v1/tasks/t000000000000/outputs/content?path=x"),
    ("GET", "/v1/tasks/t000000000000/outputs:download"),
    ("GET", "/v1/tasks/t000000000000/tables"),
    ("GET", "/v1/tasks/t000000000000/tables/summary"),
    ("POST", "/v1/inputs"),
    ("POST", "/v1/inputs:negotiate"),
    ("GET", "/v1/simulators"),
    ("GET", "/v1/simulators/swmm"),
    ("GET", "/v1/groups"),
    ("POST", "/v1/groups"),
    ("GET", "/v1/groups/local"),
    ("PATCH", "/v1/groups/local"),
    ("POST", "/v1/groups/local:end"),
    ("GET", "/v1/cluster"),
    ("GET", "/v1/machine-types"),
    ("GET", "/v1/machines"),
    ("GET", "/v1/groups/local/cost"),
    ("POST", "/v1/machines:join"),
    ("POST", "/v1/groups/local:pause"),
    ("POST", "/v1/groups/local:resume"),
    ("GET", "/v1/projects"),
    ("POST", "/v1/projects/default:pause"),
    ("POST", "/v1/projects/default:resume"),
    ("GET", "/v1/sweeps"),
    ("POST", "/v1/sweeps"),
    ("GET", "/v1/sweeps/s000000000000"),
    ("POST", "/v1/sweeps/s000000000000:cancel"),
    ("GET", "/v1/sweeps/s000000000000/events"),
    ("GET", "/v1/sweeps/s000000000000/tables/summary"),
]


@pytest.mark.parametrize(("method", "url"), CLOSED)
def test_nothing_is_open_without_a_key(face: Face, method: str, url: str) -> None:
    answer = face.request(method, url, key=None)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_operation_is_either_open_or_on_the_list_of_closed_ones(face: Face) -> None:
    needing = {
        (method.upper(), path)
        for path, operations in face.app.openapi()["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    }
    assert len(needing) == len(CLOSED)


@pytest.mark.parametrize("url", ["/v1/health", "/v1/ready", "/openapi.json", "/docs"])
def test_health_and_documentation_are_open(face: Face, url: str) -> None:
    assert face.get(url, key=None).status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer sy_wrong", "Basic c3k6", "sy_x", "Bearer " + "x" * 9000, "Bearer sy_\xff"]
)
def test_a_wrong_key_is_refused(face: Face, header: str) -> None:
    problem(face.get("/v1/tasks", headers={"Authorization": header.encode("latin-1")}, key=None), 401)


def test_a_wrong_key_is_refused_before_the_body_is_read(face: Face) -> None:
    problem(face.post("/v1/tasks", content=b"{", key="sy_wrong"), 401)


def test_a_key_ends_with_its_time_even_when_it_was_just_used(face: Face) -> None:
    key = face.add_key("ada", START + timedelta(seconds=1))
    assert face.get("/v1/tasks", key=key).status_code == 200
    face.clock.advance(1)
    problem(face.get("/v1/tasks", key=key), 401)


def test_a_revoked_key_is_refused_after_two_seconds_at_the_latest(face: Face) -> None:
    assert face.get("/v1/tasks").status_code == 200
    [stored] = face.store.list_keys()
    face.store.revoke_key(stored.id)
    face.clock.advance(2)
    problem(face.get("/v1/tasks"), 401)


def test_a_burst_of_requests_reads_the_store_once(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    find = face.store.find_key
    monkeypatch.setattr(face.store, "find_key", lambda hashed: asked.append(hashed) or find(hashed))  # type: ignore[func-returns-value]
    for _ in range(5):
        assert face.get("/v1/simulators").status_code == 200
    assert len(asked) == 1


def test_another_users_task_is_as_if_it_did_not_exist(face: Face) -> None:
    task, bob = face.submit(), face.add_key("bob")
    answers: list[httpx.Response] = [
        face.request(method, url.replace("t000000000000", task), key=bob) for method, url in CLOSED if "t0000" in url
    ]
    for answer in answers:
        problem(answer, 404, "task")
    assert face.get("/v1/tasks", key=bob).json()["tasks"] == []
    assert not face.store.get(task).task.cancel_requested


def test_the_key_is_not_written_to_the_log(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    face.get("/v1/tasks")
    face.get("/v1/tasks", key="sy_wrong")
    assert face.key not in caplog.text
    assert "sy_wrong" not in caplog.text
