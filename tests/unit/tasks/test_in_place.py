"""What is known to be in place on machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simyard.simulator import RuntimeName
from tasks import in_place as module
from tasks.in_place import InPlace
from tasks.lifecycle import step
from tasks.placement import Environment
from tasks.record import TaskRecord
from tests.unit.tasks.samples import NOW, dispatch, queued, running

SWMM = Environment("swmm", "5.2.4", RuntimeName.NATIVE)


def ran(machine: str, version: str = "5.2.4") -> TaskRecord:
    record = running(version=version)
    last = record.task.attempts[-1].model_copy(update={"machine": machine})
    return replace(record, task=record.task.model_copy(update={"attempts": (last,)}))


def test_what_a_task_runs_in_is_in_place_once_its_commands_have_started() -> None:
    assert InPlace().after(queued()) == InPlace()
    assert InPlace().after(step(queued(), dispatch(), NOW).record) == InPlace()
    known = InPlace().after(running())
    assert known.on("node-1") == {SWMM}
    assert known.on("node-2") == frozenset()
    assert known.after(running()) is known


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MACHINES", 2)
    monkeypatch.setattr(module, "EACH", 2)
    known = InPlace()
    for version in ("1", "2", "3"):
        known = known.after(ran("a", version))
    assert known.on("a") == {SWMM._replace(version="2"), SWMM._replace(version="3")}
    known = known.after(ran("b")).after(ran("a", "4")).after(ran("c"))
    assert sorted(known.known) == ["a", "c"]
