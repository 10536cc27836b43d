"""Cores that are broken on purpose, each in one place: a simulation that does not notice one is worth nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from simyard.reason import ReasonCode
from simyard.status import Status
from storage import snapshots
from tasks import desk, graph, leases, lifecycle, memory, placement, prices, recovery, rooms, shares, spent, takeovers
from tasks.dependencies import Tie
from tasks.lifecycle import Step
from tasks.record import TaskRecord
from tests.simulation import standby
from tests.simulation.faults import CHANCES, SHORTEST, Faults

Mutant = Callable[[pytest.MonkeyPatch], None]


def an_actor_that_dies_as_it_takes_over_is_replaced_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(takeovers.Takeovers, "rest", lambda self, key, now: False)


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
        patch.setattr(module, "whole", lambda need, *_: need)


def other_machines_are_taken_to_be_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(placement.Holder, "hosts", property(lambda holder: (holder.host,)))


def a_deposed_dispatcher_decides(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standby.Lead, "check", lambda _: None)


def whoever_asks_leads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standby.Leadership, "is_free", lambda *_: True)


def the_lead_has_no_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standby.Leadership, "is_free", lambda self, server, _: self._holder in {None, server})


def what_runs_at_the_other_server_is_lost_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(desk, "RETURN_SECONDS", 0.0)


def who_leads_again_does_not_look_around(patch: pytest.MonkeyPatch) -> None:
    """A dispatcher that stood still does not notice that another one has led meanwhile."""
    real = standby.Lead.take

    def always_the_same(self: Any, seconds: float) -> int | None:
        return real(self, seconds) and 1

    patch.setattr(standby.Lead, "take", always_the_same)


def results_of_other_users_are_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory.MemoryStore, "_asked", lambda self, task: ("", self._fingerprints[task]))


def a_withdrawn_result_is_taken(patch: pytest.MonkeyPatch) -> None:
    real = memory.MemoryStore.withdraw

    def kept(self: Any, task: str) -> None:
        fingerprint, asked = self._fingerprints.get(task), task in self._fingerprints and self._asked(task)
        real(self, task)
        if fingerprint is not None:
            self._fingerprints[task] = fingerprint
            if self._records[task].status is Status.SUCCEEDED and self._records[task].task.reused_from is None:
                self._results[asked][task] = self._records[task].seq

    patch.setattr(memory.MemoryStore, "withdraw", kept)


def what_another_one_has_is_removed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory.MemoryStore, "withdraw", _withdrawn_at_once)


def _withdrawn_at_once(self: Any, task: str) -> None:
    if self.get(task).status.is_end and task in self._fingerprints:
        self._results[self._asked(task)].pop(task, None)
        del self._fingerprints[task]


def what_has_a_result_is_computed_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(desk, "take_results", _take_and_forget)


def _take_and_forget(store: Any, objects: Any, queue: Any, now: datetime) -> list[TaskRecord]:
    store.earlier_results([record.id for record in queue if record.task.reuse])
    return list(queue)


def snapshots_go_with_each_change(patch: pytest.MonkeyPatch) -> None:
    def see(self: Any, record: TaskRecord) -> None:
        if any(attempt.snapshot is not None for attempt in record.task.attempts):
            self._tasks.append(record.id)

    patch.setattr(spent.SpentSnapshots, "see", see)


def the_oldest_snapshot_counts_as_the_newest(patch: pytest.MonkeyPatch) -> None:
    real = snapshots._complete
    patch.setattr(snapshots, "_complete", lambda task, found: real(task, found)[::-1])


def a_snapshot_counts_before_it_is_complete(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshots, "_complete", lambda _, found: sorted(found, reverse=True))


def news_that_come_late_count(patch: pytest.MonkeyPatch) -> None:
    """What an attempt has told of a snapshot is told again, and goes back to it."""
    real = lifecycle._tell

    def lax(record: TaskRecord, stimulus: Any) -> Step:
        attempts = lifecycle._with_last(record, snapshot=None) if stimulus.news.made else record.task.attempts
        return real(replace(record, task=record.task.model_copy(update={"attempts": attempts})), stimulus)

    patch.setattr(lifecycle, "_tell", lax)


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
    (an_actor_that_dies_as_it_takes_over_is_replaced_at_once, _FAULTS),
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


PACKED_MUTANTS: tuple[tuple[Mutant, int], ...] = (
    (a_disk_is_given_twice, 4000),
    (a_whole_machine_is_shared, 4000),
    (other_machines_are_taken_to_be_free, 9000),
)
"""Those that show from a seed on where tasks ask for disk, whole machines and several machines, without any fault."""
REUSE_MUTANTS: tuple[tuple[Mutant, int, str], ...] = (
    (results_of_other_users_are_taken, 6000, "and it is (ada|bob)'s"),
    (a_withdrawn_result_is_taken, 6000, "it is not there any more|is computed, and"),
    (what_another_one_has_is_removed, 6000, "is removed, and"),
    (what_has_a_result_is_computed_again, 6000, "is computed, and"),
)
"""Those that show where tasks have the results of earlier ones, without any fault: from which world on, and how."""
KEPT_MUTANTS: tuple[tuple[Mutant, int, str], ...] = (
    (snapshots_go_with_each_change, 7000, "which has not ended, are removed"),
    (the_oldest_snapshot_counts_as_the_newest, 7000, "goes back to"),
    (a_snapshot_counts_before_it_is_complete, 7000, "which is not complete"),
    (news_that_come_late_count, 7000, "and has attempt="),
)
"""Those that show where attempts keep snapshots, without any fault: from which world on, and how."""
STANDBY_MUTANTS: tuple[tuple[Mutant, int, str], ...] = (
    (a_deposed_dispatcher_decides, 8000, "and this is"),
    (whoever_asks_leads, 8000, "was told that it does until"),
    (the_lead_has_no_end, 8005, "these have not ended"),
    (what_runs_at_the_other_server_is_lost_at_once, 8000, "goes on at the other server"),
    (who_leads_again_does_not_look_around, 8014, "goes on at the other server"),
)
"""Those that show where two servers have one store, without any other fault: from which world on, and how."""
