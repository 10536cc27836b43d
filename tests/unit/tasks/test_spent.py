"""Snapshots are removed once their task has ended, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.outcome import Outcome
from simulators.work import News, Report
from simyard.reason import ReasonCode
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.snapshots import complete_snapshots, put_snapshot
from tasks.holders import Verdict
from tests.unit.tasks.samples import failed, succeeded
from tests.unit.tasks.test_desk_adoption import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "state").write_text("1")
    scene = Scene()
    made = put_snapshot(scene.objects, scene.task, 1, 1, tmp_path)
    assert scene.desk.report(scene.task, 1, [Report(News(message="kept", made=made))]) is Verdict.TAKEN
    assert scene.record.task.attempts[0].snapshot == made
    return scene


@pytest.mark.parametrize("outcome", [succeeded(), failed()])
def test_they_go_with_the_end_of_the_task(scene: Scene, outcome: Outcome) -> None:
    scene.desk.turn()
    assert complete_snapshots(scene.objects, scene.task) == [(1, 1)]
    scene.desk.report(scene.task, 1, [Report(outcome)])
    scene.desk.turn()
    assert complete_snapshots(scene.objects, scene.task) == []


def test_they_stay_for_a_next_attempt(scene: Scene) -> None:
    scene.desk.report(scene.task, 1, [Report(failed(ReasonCode.MACHINE_LOST))])
    scene.desk.turn()
    assert scene.record.status is not Status.FAILED
    assert complete_snapshots(scene.objects, scene.task) == [(1, 1)]


def test_a_storage_that_is_away_holds_no_turn_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StorageUnavailable("The network went away.")

    scene.desk.report(scene.task, 1, [Report(succeeded())])
    monkeypatch.setattr(scene.objects, "list", away)
    scene.desk.turn()
