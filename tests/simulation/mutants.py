"""Cores that are broken on purpose, each in one place: a simulation that does not notice one is worth nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from simyard.reason import ReasonCode
from tasks import desk, graph, leases, lifecycle, memory, placement, prices, recovery, rooms, shares
from tasks.dependencies import Tie
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


def a_pause_is_not_heeded(patch: pytest.MonkeyPatch) -> None:
    # Only where tasks are chosen: the books go by the rules themselves.
    patch.setattr(shares.Line, "__init__", _without_pauses(shares.Line.__init__))


def _without_pauses(real: Any) -> Any:
    def init(self: Any, queue: Any, found: Any, rules: Any, *rest: Any) -> None:
        real(self, queue, found, replace(rules, pauses=frozenset()), *rest)

    return init


def a_quota_is_not_heeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shares, "over", lambda *_: None)


def what_has_just_started_counts_for_no_quota(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shares.Line, "started", lambda *_: None)


def what_starts_is_taken_to_cost_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prices.Prices, "estimate", lambda *_: 0.0)


def a_held_task_is_started(patch: pytest.MonkeyPatch) -> None:
    real = lifecycle._dispatch

    def lax(record: TaskRecord, *rest: Any) -> Step:
        return real(replace(record, task=record.task.model_copy(update={"held": False})), *rest)

    patch.setattr(lifecycle, "_dispatch", lax)
    patch.setattr(memory.MemoryStore, "queue", _all_queued)


def _all_queued(self: Any, now: datetime, limit: int) -> list[TaskRecord]:
    return sorted((r for r in self._queued.values() if r.ready_at <= now), key=lambda r: r.seq)[:limit]


def any_end_is_a_success(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "tie_of", lambda status, *, needs_success: Tie.MET if status.is_end else Tie.OPEN)


def the_first_end_lets_a_task_go(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(graph.Graph, "is_free", lambda *_: True)


def an_end_is_told_to_one_task_only(patch: pytest.MonkeyPatch) -> None:
    real = memory.MemoryStore.settle

    def once(self: Any, now: datetime, limit: int) -> int:
        told = real(self, now, min(limit, 1))
        self._graph._unsettled.clear()
        return told

    patch.setattr(memory.MemoryStore, "settle", once)


def a_disk_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(placement._Room, "of", lambda host: _room_of(replace(host, disk=math.inf)))


def a_whole_machine_is_shared(patch: pytest.MonkeyPatch) -> None:
    for module in (placement, rooms):
        patch.setattr(module, "whole", lambda need, _: need)


_room_of = placement._Room.of
_FAULTS = Faults(**{name: most / 3 for name, most in CHANCES.items()}, **{name: 3 * s for name, s in SHORTEST.items()})
MUTANTS: tuple[tuple[Mutant, Faults], ...] = (
    (a_late_report_is_taken, _FAULTS),
    (a_lost_attempt_costs_nothing, _FAULTS),
    (a_failure_is_tried_again_for_ever, _FAULTS),
    (a_lost_attempt_is_not_queued_again, _FAULTS),
    (a_stored_result_is_not_looked_for, _FAULTS),
    (a_frozen_dispatcher_counts_the_silence, Faults(dispatcher_freezes_every=20.0)),
    (a_new_dispatcher_watches_nobody, Faults(crash_every=10.0, actor_freezes_every=20.0)),
    (a_key_gives_a_new_task_each_time, _FAULTS),
)
"""Each with faults that bring it to light; the core as it is keeps its promises under the same."""
SHARED_MUTANTS: tuple[Mutant, ...] = (
    a_pause_is_not_heeded,
    a_quota_is_not_heeded,
    what_has_just_started_counts_for_no_quota,
    what_starts_is_taken_to_cost_nothing,
    a_held_task_is_started,
    any_end_is_a_success,
    the_first_end_lets_a_task_go,
    an_end_is_told_to_one_task_only,
)
"""Those that show where users share the machines, without any fault."""
PACKED_MUTANTS: tuple[Mutant, ...] = (a_disk_is_given_twice, a_whole_machine_is_shared)
"""Those that show where tasks ask for disk and for whole machines, without any fault."""
