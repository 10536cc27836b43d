from __future__ import annotations

import pytest

from simyard.checkpoint import Snapshot
from tests.unit.serve.face import START, Face, problem

SNAPSHOT = Snapshot(attempt=1, number=2, at=START, files=3, size=4096)


def test_a_snapshot_of_a_running_task_is_answered(face: Face) -> None:
    task = face.submit(checkpoint={"files": ["restart/**"], "every": "1h"})
    assert face.get(f"/v1/tasks/{task}").json()["checkpoint"] == {
        "files": ["restart/**"],
        "every": 3600.0,
        "resume": [],
    }
    face.run(task)
    problem(face.post(f"/v1/tasks/{task}:checkpoint"), 409)
    face.live.snapshots[task, 1] = SNAPSHOT
    answer = face.post(f"/v1/tasks/{task}:checkpoint")
    assert (answer.status_code, Snapshot.model_validate_json(answer.content)) == (200, SNAPSHOT)


def test_only_a_task_that_runs_has_something_to_keep(face: Face) -> None:
    task = face.submit()
    assert "queued" in problem(face.post(f"/v1/tasks/{task}:checkpoint"), 409)["detail"]
    face.run(task)
    face.live.files.clear()
    problem(face.post(f"/v1/tasks/{task}:checkpoint"), 503)


@pytest.mark.parametrize("changes", [{}, {"checkpoint": None}])
def test_a_simulator_that_declares_nothing_keeps_nothing(face: Face, changes: dict[str, object]) -> None:
    assert face.get(f"/v1/tasks/{face.submit(**changes)}").json()["checkpoint"] is None
