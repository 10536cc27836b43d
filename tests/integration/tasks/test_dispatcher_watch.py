"""What the dispatcher does with the reports from a machine on which everything fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.machines import RayMachine
from simyard.event import EventKind
from simyard.resources import GIB, Limits
from simyard.status import Status
from storage.settings import load_settings
from tasks.dispatcher import DispatcherActor, _now
from tasks.lifecycle import Dispatch
from tasks.reporting import Verdict
from tests.unit.tasks.samples import dispatch, draft, failed, later, succeeded


@pytest.fixture
def dispatcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DispatcherActor]:
    """A dispatcher of two machines that takes reports and makes no turns."""
    monkeypatch.setenv("SIMYARD_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(DispatcherActor, "_run", lambda self: None)
    load_settings.cache_clear()
    dispatcher = DispatcherActor()
    dispatcher._machines = tuple(
        RayMachine(id=name, name=name, group="local", cpus=4, memory=8 * GIB, gpus=0) for name in ("good", "bad")
    )
    yield dispatcher
    dispatcher._store.close()
    load_settings.cache_clear()


def begin(dispatcher: DispatcherActor, machine: str, **fields: object) -> str:
    store = dispatcher._store
    [answer] = store.submit([draft(**fields)], _now())
    assert answer.record is not None
    task = answer.record.id
    store.apply(task, Dispatch(machine, "sim-1", dispatch().runtime, later(10**9)), _now())
    assert dispatcher.moved(task, 1, Status.RUNNING) is Verdict.TAKEN
    return task


def test_a_machine_on_which_all_fails_at_once_is_set_aside_and_shown(dispatcher: DispatcherActor) -> None:
    assert dispatcher.ended(begin(dispatcher, "good"), 1, succeeded()) is Verdict.TAKEN
    tasks = [begin(dispatcher, "bad", retries=1) for _ in range(3)]
    assert [dispatcher.ended(task, 1, failed()) for task in tasks] == [Verdict.TAKEN] * 3
    records = [dispatcher._store.get(task) for task in tasks]
    assert [(r.status, r.failures, r.losses) for r in records] == [(Status.QUEUED, 0, 0)] * 3
    [group] = dispatcher.groups()
    shown = {machine.name: machine.set_aside_until for machine in group.machines}
    assert shown["good"] is None
    assert shown["bad"] is not None
    assert shown["bad"] > _now()


def test_a_stall_is_taken_and_told(dispatcher: DispatcherActor) -> None:
    task = begin(dispatcher, "good", limits=Limits(stall=60))
    assert dispatcher.stalled(task, 1, 1) is Verdict.TAKEN
    assert dispatcher.stalled(task, 1, 1) is Verdict.TAKEN
    assert dispatcher.stalled(task, 2, 1) is Verdict.SUPERSEDED
    assert [e.kind for e in dispatcher._store.events(task=task)].count(EventKind.NOTE) == 1
