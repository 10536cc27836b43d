"""Which machines are known to have the inputs of a sweep."""

from __future__ import annotations

import pytest

from simyard.task import Case
from simyard.words import new_sweep_id
from tasks import nearness as module
from tasks.lifecycle import new_record
from tasks.nearness import Nearness
from tasks.record import TaskRecord
from tests.unit.tasks.samples import NOW, draft, queued


def of(sweep: str) -> TaskRecord:
    return new_record(draft(case=Case(sweep=sweep, number=1, values={})), 1, NOW).record


def test_the_cases_of_a_sweep_are_near_where_others_of_it_were_placed() -> None:
    sweep, other = new_sweep_id(), new_sweep_id()
    known = Nearness().after(of(sweep), "h1").after(of(sweep), "h2")
    assert known.to(of(sweep)) == ("h1", "h2")
    assert known.after(of(sweep), "h1") is known
    assert known.to(of(other)) == ()


def test_of_a_task_by_itself_nothing_is_known() -> None:
    known = Nearness()
    assert known.after(queued(), "h1") is known
    assert known.to(queued()) == ()


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEPS", 2)
    monkeypatch.setattr(module, "EACH", 2)
    sweeps, known = [new_sweep_id() for _ in range(3)], Nearness()
    for sweep in sweeps:
        for host in ("h1", "h2", "h3"):
            known = known.after(of(sweep), host)
    assert known.known == dict.fromkeys(sweeps[1:], ("h2", "h3"))
