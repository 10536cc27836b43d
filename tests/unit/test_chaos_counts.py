"""What the chaos benchmark counts as recovered and as executed again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.chaos import Blow, beginnings, recovery, summary
from simyard.event import Event, EventKind
from simyard.status import Status

TASK = "t000000000001"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(seconds: float, status: Status, kind: EventKind = EventKind.STATUS) -> Event:
    return Event(seq=1, task=TASK, at=AT + timedelta(seconds=seconds), kind=kind, status=status)


def blow(probe: float = 1.0, target: str = "actor") -> Blow:
    return Blow(target, "kill", AT.timestamp(), frozenset({TASK}), probe_s=probe)


def test_a_struck_task_has_recovered_when_it_is_taken_over_runs_again_or_ends() -> None:
    before = event(-1, Status.RUNNING)
    lost = event(2, Status.QUEUED, EventKind.ATTEMPT_LOST)
    late = event(3, Status.RUNNING, EventKind.REPORT_REFUSED)
    again = [event(2, Status.QUEUED), event(4, Status.PREPARING), event(5, Status.RUNNING)]
    assert recovery(blow(), {TASK: [before, lost, late, *again]}) == 5
    assert recovery(blow(), {TASK: [before, event(2.5, Status.RUNNING, EventKind.NOTE)]}) == 2.5
    assert recovery(blow(), {TASK: [before, event(7, Status.SUCCEEDED)]}) == 7


def test_recovery_is_never_shorter_than_the_probe() -> None:
    assert recovery(blow(probe=9), {TASK: [event(5, Status.SUCCEEDED)]}) == 9
    assert recovery(blow(probe=9), {}) == 9


def test_runs_are_counted_by_their_own_marks_wherever_they_ran(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text(f"simyard-{TASK}-1\nsimyard-{TASK}-2\nsimyard-{TASK}-2\n")
    (tmp_path / "starts").write_text("simyard-t000000000002-1-0\nsomebody-else\n")
    assert beginnings(tmp_path) == {(TASK, 1): 1, (TASK, 2): 2, ("t000000000002", 1): 1}


def test_the_summary_names_each_target() -> None:
    told = [blow(), blow(target="head")]
    told[0].recovery_s, told[1].recovery_s = 2.0, 40.0
    assert summary(told) == {
        "recovery_median_s": 21.0,
        "recovery_worst_s": 40.0,
        "targets": {
            "actor": {"kill": 1, "stop": 0, "median_s": 2.0, "worst_s": 2.0},
            "head": {"kill": 1, "stop": 0, "median_s": 40.0, "worst_s": 40.0},
        },
    }
