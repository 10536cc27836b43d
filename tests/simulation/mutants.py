"""Cores that are broken on purpose, each in one place: a simulation that does not notice one is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from simyard.reason import ReasonCode
from tasks import desk, leases, lifecycle, memory, recovery
from tasks.lifecycle import Step
from tasks.record import TaskRecord
from tests.simulation.faults import CHANCES, SHORTEST, Faults

Mutant = Callable[[pytest.MonkeyPatch], None]


def a_late_report_is_taken(patch: pytest.MonkeyPatch) -> None:
    """The fencing token counts for nothing: the end of any attempt ends the task."""
    real = lifecycle._require_current

    def lax(record: TaskRecord, attempt: int, end: Any = None) -> None:
        if not record.status.is_active:
            real(record, attempt, end)

    patch.setattr(lifecycle, "_require_current", lax)


def a_lost_attempt_costs_nothing(patch: pytest.MonkeyPatch) -> None:
    real = lifecycle._lost

    def free(record: TaskRecord, closed: TaskRecord, reason: Any, now: datetime) -> Step:
        return real(record, closed, reason.model_copy(update={"code": ReasonCode.PREEMPTED}), now)

    patch.setattr(lifecycle, "_lost", free)


def a_failure_is_tried_again_for_ever(patch: pytest.MonkeyPatch) -> None:
    real = lifecycle._again

    def free(closed: TaskRecord, reason: Any, now: datetime) -> Step:
        return real(replace(closed, failures=closed.failures - 1), reason, now)

    patch.setattr(lifecycle, "_again", free)


def a_lost_attempt_is_not_queued_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lifecycle, "_lost", lambda record, closed, reason, now: Step(closed))


def a_stored_result_is_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    """An attempt is taken as lost although its outputs are there."""

    def blind(store: Any, objects: Any, task: str, attempt: int, now: datetime) -> None:
        recovery.read_outcome(objects, task, attempt)

    patch.setattr(recovery, "settle_stored", blind)
    patch.setattr(desk, "settle_stored", blind)


def a_frozen_dispatcher_counts_the_silence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "ATTENTIVE", float("inf"))


def a_new_dispatcher_watches_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(desk.Desk, "_watch_again", lambda _: None)


def a_key_gives_a_new_task_each_time(patch: pytest.MonkeyPatch) -> None:
    real = memory.MemoryStore._submit

    def forgetful(self: Any, draft: Any, *rest: Any) -> Any:
        self._by_key.pop((draft.user, draft.key), None)
        return real(self, draft, *rest)

    patch.setattr(memory.MemoryStore, "_submit", forgetful)


_FAULTS = Faults(**{name: most / 3 for name, most in CHANCES.items()}, **{name: 3 * s for name, s in SHORTEST.items()})
MUTANTS: tuple[tuple[Mutant, Faults], ...] = (
    (a_late_report_is_taken, _FAULTS),
    (a_lost_attempt_costs_nothing, _FAULTS),
    (a_failure_is_tried_again_for_ever, _FAULTS),
    (a_lost_attempt_is_not_queued_again, _FAULTS),
    (a_stored_result_is_not_looked_for, _FAULTS),
    (a_frozen_dispatcher_counts_the_silence, Faults(dispatcher_freezes_every=20.0)),
    (a_new_dispatcher_watches_nobody, Faults(crash_every=10.0, answer_lost=0.1)),
    (a_key_gives_a_new_task_each_time, _FAULTS),
)
"""Each with faults that bring it to light; the core as it is keeps its promises under the same."""
