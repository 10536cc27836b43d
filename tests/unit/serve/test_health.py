from __future__ import annotations

from typing import Any

import pytest

from simyard.errors import Unavailable
from tests.unit.serve.face import Face


def test_a_server_that_works_is_ready(face: Face) -> None:
    assert face.get("/v1/health").json()["status"] == "ok"
    assert face.get("/v1/ready").json() == {
        "ready": True,
        "checks": {"machines": "ok", "storage": "ok", "store": "ok"},
    }


@pytest.mark.parametrize(("part", "method"), [("store", "latest"), ("storage", "head")])
def test_a_part_that_fails_makes_it_not_ready_and_is_named(
    face: Face, monkeypatch: pytest.MonkeyPatch, part: str, method: str
) -> None:
    def gone(*_: Any) -> None:
        raise Unavailable("It is gone.")

    monkeypatch.setattr(getattr(face, part), method, gone)
    answer = face.get("/v1/ready")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["checks"][part] == "It is gone."
    assert face.get("/v1/health").status_code == 200


def test_tasks_are_accepted_while_nobody_knows_the_machines(face: Face) -> None:
    async def gone() -> Any:
        raise Unavailable("The dispatcher does not answer.")

    face._groups = gone  # type: ignore[method-assign]
    other = Face(store=face.store, storage=face.storage)
    object.__setattr__(other.context, "groups", gone)
    assert other.post("/v1/tasks", json=face.spec(group="elsewhere")).status_code == 201
    assert other.get("/v1/ready").json()["checks"]["machines"] == "The dispatcher does not answer."
    other._runner.close()
