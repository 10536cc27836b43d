from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from simulators.outcome import Outcome
from simulators.work import News
from simyard.checkpoint import Snapshot
from simyard.errors import InvalidInput
from simyard.event import EventKind
from simyard.reason import Reason, ReasonCode
from simyard.resources import GIB, MIB, Limits, Resources
from simyard.retry import RETRYABLE, Retry
from simyard.status import ACTIVE, Status
from simyard.task import Task
from tasks.errors import Refused
from tasks.lifecycle import (
    ADOPTION_BUDGET,
    KEPT_ATTEMPTS,
    LOSS_BUDGET,
    Adopt,
    Cancel,
    Dispatch,
    End,
    Expire,
    Forgive,
    Lost,
    Progress,
    Renew,
    Stalled,
    Stimulus,
    Tell,
    Undelivered,
    Wait,
    backoff,
    new_record,
    step,
)
from tasks.record import TaskRecord
from tests.unit.tasks.samples import (
    NOW,
    WEIRD,
    dispatch,
    draft,
    ended,
    failed,
    later,
    queued,
    reason,
    running,
    succeeded,
)

LOST = reason(ReasonCode.MACHINE_LOST)


def refused(record: TaskRecord, stimulus: Stimulus) -> Refused:
    with pytest.raises(Refused) as caught:
        step(record, stimulus, later(9))
    return caught.value


def test_a_new_task_is_queued_and_ready_and_says_that_it_was_submitted() -> None:
    first = new_record(draft(name="n", retries=2), 7, NOW)
    assert (first.record.status, first.record.seq, first.record.ready_at) == (Status.QUEUED, 7, NOW)
    assert first.record.retries == 2
    assert [(e.kind, e.status) for e in first.events] == [(EventKind.SUBMITTED, Status.QUEUED)]


def test_a_new_task_is_as_if_its_fields_had_been_validated() -> None:
    for one in (draft(), draft(name=WEIRD, retries=2, retry=Retry(memory=8 * GIB), priority=3, limits=Limits(run=60))):
        task = new_record(one, 7, NOW).record.task
        validated = Task.model_validate(task.model_dump())
        assert task == validated
        assert (list(task.__dict__), task.model_fields_set) == (list(Task.model_fields), validated.model_fields_set)
        assert task.model_dump_json() == validated.model_dump_json()


def test_a_draft_without_a_version_is_no_task() -> None:
    with pytest.raises(InvalidInput, match="version"):
        new_record(draft(version=None), 1, NOW)


def test_a_task_goes_its_way_to_success_and_names_the_attempt_whose_outputs_it_has() -> None:
    record, told = queued(), []
    for stimulus in (
        dispatch(),
        Progress(1, Status.RUNNING),
        Progress(1, Status.FINALIZING),
        End(1, succeeded()),
    ):
        after = step(record, stimulus, later(len(told)))
        record = after.record
        told += [(e.kind, e.status, e.attempt) for e in after.events]
    assert told == [
        (EventKind.STATUS, Status.PREPARING, 1),
        (EventKind.STATUS, Status.RUNNING, 1),
        (EventKind.STATUS, Status.FINALIZING, 1),
        (EventKind.STATUS, Status.SUCCEEDED, 1),
    ]
    assert (record.task.result, record.holder, record.lease_until) == (1, None, None)
    assert (record.task.started_at, record.task.ended_at) == (later(1), later(3))
    [attempt] = record.task.attempts
    assert (attempt.exit_code, attempt.peak_memory, attempt.cpu_seconds, attempt.reason) == (0, 1000, 1.25, None)


def test_a_step_leaves_the_record_that_it_was_given_as_it_was() -> None:
    record = queued()
    step(record, dispatch(), NOW)
    assert record.status is Status.QUEUED
    assert record.task.attempts == ()


def test_an_end_stands_also_when_the_reports_before_it_were_lost() -> None:
    record = step(queued(), dispatch(), NOW).record
    after = step(record, End(1, succeeded()), later(1))
    assert [e.status for e in after.events] == [Status.FINALIZING, Status.SUCCEEDED]
    assert after.record.task.result == 1


def test_success_without_stored_outputs_is_a_failure_of_ours() -> None:
    outcome = succeeded().model_copy(update={"stored": False})
    after = step(running(), End(1, outcome), later(1)).record
    assert after.status is Status.FAILED
    assert after.task.reason is not None
    assert after.task.reason.code is ReasonCode.INTERNAL
    assert after.task.result is None


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMED_OUT])
def test_outputs_that_a_failure_left_are_kept_as_the_result(status: Status) -> None:
    outcome = failed(ReasonCode.TIME_LIMIT).model_copy(update={"status": status})
    assert ended(outcome).task.result == 1
    assert ended(outcome.model_copy(update={"stored": False})).task.result is None


@pytest.mark.parametrize(
    "stimulus",
    [
        Progress(2, Status.FINALIZING),
        Progress(0, Status.FINALIZING),
        Progress(-1, Status.FINALIZING),
        Renew(2, NOW),
        End(2, succeeded()),
        Lost(2, LOST),
        Undelivered(2),
    ],
)
def test_a_report_of_an_attempt_that_never_was_is_refused(stimulus: Stimulus) -> None:
    assert not refused(running(), stimulus).duplicate


@pytest.mark.parametrize(
    "stimulus",
    [
        Progress(1, Status.FINALIZING),
        Progress(1, Status.RUNNING),
        Renew(1, later(60)),
        End(1, succeeded()),
        Lost(1, LOST),
        Undelivered(1),
    ],
)
def test_a_report_of_an_attempt_that_was_replaced_is_refused(stimulus: Stimulus) -> None:
    assert not refused(running(attempt=2), stimulus).duplicate


@pytest.mark.parametrize("stimulus", [Renew(1, later(60)), Progress(1, Status.FINALIZING), dispatch()])
def test_nothing_goes_on_after_the_end(stimulus: Stimulus) -> None:
    assert not refused(ended(succeeded()), stimulus).duplicate


def test_the_same_end_twice_is_refused_as_a_duplicate_and_another_end_as_a_contradiction() -> None:
    record = ended(succeeded())
    assert refused(record, End(1, succeeded())).duplicate
    assert not refused(record, End(1, failed())).duplicate
    assert not refused(record, Lost(1, LOST)).duplicate
    assert not refused(record, End(1, succeeded().model_copy(update={"cpu_seconds": 2.0}))).duplicate


def test_the_same_end_twice_is_known_also_after_the_task_went_on() -> None:
    record = step(running(retries=1), End(1, failed()), later(1)).record
    assert record.status is Status.QUEUED
    assert refused(record, End(1, failed())).duplicate
    record = step(record, dispatch(), later(9)).record
    assert refused(record, End(1, failed())).duplicate
    assert not refused(record, End(1, succeeded())).duplicate


def test_a_late_success_of_a_lost_attempt_is_no_duplicate() -> None:
    record = step(running(), Lost(1, LOST), later(1)).record
    assert refused(record, Lost(1, LOST)).duplicate
    assert not refused(record, End(1, succeeded())).duplicate


def test_the_same_progress_twice_is_a_duplicate_and_a_step_back_is_not() -> None:
    record = running()
    assert refused(record, Progress(1, Status.RUNNING)).duplicate
    record = step(record, Progress(1, Status.FINALIZING), NOW).record
    assert not refused(record, Progress(1, Status.RUNNING)).duplicate


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.RUNNING, Status.FINALIZING}))
def test_an_attempt_cannot_report_a_status_that_is_not_its_own(status: Status) -> None:
    refused(running(), Progress(1, status))


@pytest.mark.parametrize("status", sorted({Status.QUEUED, Status.WAITING, *ACTIVE}))
def test_an_end_must_be_an_end(status: Status) -> None:
    refused(running(), End(1, Outcome(status=status)))


def test_a_lease_grows_and_never_shrinks() -> None:
    record = step(running(), Renew(1, later(60)), NOW).record
    assert record.lease_until == later(60)
    assert step(record, Renew(1, later(40)), NOW).record.lease_until == later(60)
    assert step(record, Renew(1, later(40)), NOW).events == ()


@pytest.mark.parametrize("code", sorted(RETRYABLE))
def test_a_failure_is_tried_again_as_often_as_the_user_allowed(code: ReasonCode) -> None:
    record = queued(retries=2)
    for number in (1, 2):
        record = step(record, dispatch(), NOW).record
        after = step(record, End(number, failed(code)), NOW)
        record = after.record
        assert (record.status, record.failures, record.task.result) == (Status.QUEUED, number, None)
        assert record.ready_at == NOW + backoff(record.id, number)
        assert after.events[-1].reason == failed(code).reason
    record = step(record, dispatch(), NOW).record
    record = step(record, End(3, failed(code)), NOW).record
    assert (record.status, record.task.result, record.task.reason) == (Status.FAILED, 3, failed(code).reason)


@pytest.mark.parametrize("code", [ReasonCode.INTERNAL, ReasonCode.DEPENDENCY_FAILED])
def test_a_failure_that_is_not_the_users_is_not_paid_from_the_users_budget(code: ReasonCode) -> None:
    assert ended(failed(code), retries=5).status is Status.FAILED


def test_a_time_limit_is_not_tried_again() -> None:
    outcome = failed(ReasonCode.TIME_LIMIT).model_copy(update={"status": Status.TIMED_OUT})
    assert ended(outcome, retries=5).status is Status.TIMED_OUT


def test_a_failure_without_a_reason_gets_one() -> None:
    record = ended(Outcome(status=Status.FAILED))
    assert record.task.reason is not None
    assert record.task.reason.code is ReasonCode.INTERNAL
    assert refused(record, End(1, Outcome(status=Status.FAILED))).duplicate


def test_backoff_doubles_to_a_bound_with_a_part_that_differs_between_tasks() -> None:
    for tries in (1, 2, 5, 8, 30, 10**6):
        full = min(2.0 * 2.0 ** min(tries - 1, 32), 300.0)
        assert timedelta(seconds=full / 2) <= backoff("t1", tries) <= timedelta(seconds=full)
    assert backoff("t1", 3) == backoff("t1", 3)
    assert len({backoff(f"t{i}", 3) for i in range(20)}) > 10


def test_a_lost_attempt_is_made_again_until_the_budget_of_losses_is_spent() -> None:
    record = queued()
    for number in range(1, LOSS_BUDGET + 1):
        record = step(record, dispatch(), NOW).record
        after = step(record, Lost(number, LOST), NOW)
        record = after.record
        assert (record.status, record.losses, record.holder) == (Status.QUEUED, number, None)
        assert [e.kind for e in after.events] == [EventKind.ATTEMPT_LOST, EventKind.STATUS]
        assert (record.ready_at == NOW) == (number == 1)
    record = step(record, dispatch(), NOW).record
    after = step(record, Lost(LOSS_BUDGET + 1, LOST), NOW)
    assert (after.record.status, after.record.task.reason) == (Status.FAILED, LOST)
    assert {e.status for e in after.events} == {Status.FAILED}
    assert after.record.task.ended_at == NOW


def test_preemptions_cost_nothing_and_the_list_of_attempts_stays_bounded() -> None:
    record = running(attempt=KEPT_ATTEMPTS + 20)
    assert (record.losses, record.status) == (0, Status.RUNNING)
    assert [a.number for a in record.task.attempts] == list(range(21, KEPT_ATTEMPTS + 21))
    assert step(record, End(KEPT_ATTEMPTS + 20, succeeded()), NOW).record.task.result == KEPT_ATTEMPTS + 20


def test_an_end_by_the_machines_fault_is_a_loss() -> None:
    record = step(running(retries=3), End(1, failed(ReasonCode.PREEMPTED)), NOW).record
    assert (record.status, record.losses, record.failures) == (Status.QUEUED, 0, 0)
    record = step(running(), End(1, failed(ReasonCode.MACHINE_LOST)), NOW).record
    assert (record.status, record.losses) == (Status.QUEUED, 1)


def test_a_cancel_ends_a_queued_task_at_once() -> None:
    after = step(queued(), Cancel(), later(3))
    assert (after.record.status, after.record.task.ended_at) == (Status.CANCELLED, later(3))
    assert after.record.task.reason is not None
    assert after.record.task.reason.code is ReasonCode.CANCELLED_BY_USER
    assert [e.status for e in after.events] == [Status.CANCELLED]


def test_a_cancel_of_an_active_task_is_asked_for_once() -> None:
    after = step(running(), Cancel(), NOW)
    assert (after.record.status, after.record.task.cancel_requested) == (Status.RUNNING, True)
    assert [e.kind for e in after.events] == [EventKind.CANCEL_REQUESTED]
    again = step(after.record, Cancel(), NOW)
    assert again.record == after.record
    assert again.events == ()


def test_a_cancel_after_the_end_changes_nothing() -> None:
    record = ended(succeeded())
    assert step(record, Cancel(), NOW).record == record
    assert step(record, Cancel(), NOW).events == ()


CANCELLED = Outcome(status=Status.CANCELLED, reason=reason(ReasonCode.CANCELLED_BY_USER), stored=True)


@pytest.mark.parametrize(
    ("stimulus", "status", "result"),
    [
        (End(1, CANCELLED), Status.CANCELLED, 1),
        (End(1, Outcome(status=Status.CANCELLED)), Status.CANCELLED, None),
        (End(1, succeeded()), Status.SUCCEEDED, 1),
        (End(1, failed()), Status.FAILED, 1),
        (Lost(1, LOST), Status.CANCELLED, None),
        (End(1, failed(ReasonCode.PREEMPTED)), Status.CANCELLED, None),
    ],
)
def test_what_ends_a_task_whose_cancel_was_asked_for(stimulus: Stimulus, status: Status, result: int | None) -> None:
    record = step(running(retries=3), Cancel(), NOW).record
    record = step(record, stimulus, NOW).record
    assert (record.status, record.task.result) == (status, result)


def test_an_attempt_that_was_stopped_without_a_cancel_is_made_again() -> None:
    record = step(running(), End(1, CANCELLED), NOW).record
    assert (record.status, record.losses) == (Status.QUEUED, 1)


def test_an_undelivered_attempt_costs_nothing_but_its_number() -> None:
    record = step(queued(), dispatch(), NOW).record
    record = step(record, Undelivered(1), later(1)).record
    assert (record.status, record.losses, record.failures, record.ready_at) == (Status.QUEUED, 0, 0, later(1))
    assert refused(record, Undelivered(1)).duplicate
    record = step(record, dispatch(), later(2)).record
    assert record.attempt == 2
    refused(record, End(1, succeeded()))


def test_an_undelivered_attempt_of_a_cancelled_task_ends_it() -> None:
    record = step(step(queued(), dispatch(), NOW).record, Cancel(), NOW).record
    assert step(record, Undelivered(1), NOW).record.status is Status.CANCELLED


def test_an_attempt_that_runs_was_delivered() -> None:
    refused(running(), Undelivered(1))


def test_a_task_is_dispatched_only_from_the_queue_and_its_next_attempt_starts_afresh() -> None:
    refused(running(), dispatch())
    record = step(running(), Lost(1, LOST), NOW).record
    assert record.task.reason == LOST
    record = step(record, Dispatch("node-2", "sim-9", dispatch().runtime, later(99)), later(2)).record
    assert (record.holder, record.lease_until, record.attempt) == ("sim-9", later(99), 2)
    assert (record.task.reason, record.task.started_at) == (None, None)
    assert record.task.attempts[-1].machine == "node-2"


def test_why_a_task_waits_is_told_once_for_each_kind_of_reason() -> None:
    full = Reason(code=ReasonCode.GROUP_FULL, message="All places are taken.")
    after = step(queued(), Wait(full), NOW)
    assert (after.record.status, after.record.task.reason) == (Status.QUEUED, full)
    assert [e.kind for e in after.events] == [EventKind.NOTE]
    fuller = full.model_copy(update={"message": "Still."})
    assert step(after.record, Wait(fuller), NOW).events == ()
    assert step(after.record, Wait(fuller), NOW).record.task.reason == fuller
    assert step(running(), Wait(full), NOW).record.task.reason is None


def test_an_attempt_that_is_taken_over_goes_on_under_its_number_with_a_new_holder_and_lease() -> None:
    record = running()
    after = step(record, Adopt(1, "sim-2", "sim-1", later(90)), later(9))
    assert (after.record.attempt, after.record.status) == (1, Status.RUNNING)
    assert (after.record.holder, after.record.lease_until) == ("sim-2", later(90))
    assert (after.record.losses, after.record.task.attempts[0].adoptions) == (0, 1)
    assert after.record.task.attempts[0].ended_at is None
    assert [(e.kind, e.status, e.attempt) for e in after.events] == [(EventKind.NOTE, Status.RUNNING, 1)]
    assert step(after.record, End(1, succeeded()), later(20)).record.task.result == 1


def test_an_attempt_is_taken_over_only_from_the_process_that_carries_it() -> None:
    once = step(running(), Adopt(1, "sim-2", "sim-1", later(90)), later(9)).record
    assert not refused(once, Adopt(1, "sim-3", "sim-1", later(90))).duplicate
    assert not refused(once, Lost(1, LOST, "sim-1")).duplicate
    assert step(once, Lost(1, LOST, "sim-2"), later(9)).record.status is Status.QUEUED
    assert step(once, Lost(1, LOST), later(9)).record.status is Status.QUEUED


def test_a_lease_does_not_become_shorter_when_an_attempt_is_taken_over() -> None:
    assert step(running(), Adopt(1, "sim-2", "sim-1", later(5)), later(1)).record.lease_until == later(30)


def test_what_is_over_or_not_the_newest_attempt_is_not_taken_over() -> None:
    for record in (queued(), ended(succeeded()), running(attempt=2)):
        refused(record, Adopt(1, "sim-2", "sim-1", later(90)))


def test_an_attempt_that_ends_one_process_after_another_is_not_taken_over_for_ever() -> None:
    record = running()
    for i in range(ADOPTION_BUDGET):
        record = step(record, Adopt(1, f"sim-{i + 2}", f"sim-{i + 1}", later(90)), later(9)).record
    last = f"sim-{ADOPTION_BUDGET + 1}"
    refused(record, Adopt(1, "sim-99", last, later(90)))
    assert step(record, Lost(1, LOST, last), later(9)).record.status is Status.QUEUED


def test_a_task_that_waits_longer_than_its_queue_limit_is_timed_out() -> None:
    record = queued(limits=Limits(queue=60))
    assert record.queue_until == later(60)
    early = step(record, Expire(), later(59.9))
    assert (early.record, early.events) == (record, ())
    after = step(record, Expire(), later(60))
    assert (after.record.status, after.record.task.ended_at, after.record.task.result) == (
        Status.TIMED_OUT,
        later(60),
        None,
    )
    why = after.record.task.reason
    assert why is not None
    assert (why.code, why.evidence) == (ReasonCode.TIME_LIMIT, {"limit": "queue", "seconds": 60})
    assert [(e.kind, e.status, e.reason) for e in after.events] == [(EventKind.STATUS, Status.TIMED_OUT, why)]


def test_a_task_without_a_queue_limit_waits_for_ever() -> None:
    record = queued(limits=Limits(run=1))
    assert record.queue_until is None
    assert step(record, Expire(), later(10**9)).record == record


@pytest.mark.parametrize("status", [Status.PREPARING, Status.RUNNING, Status.FINALIZING])
def test_a_task_that_found_a_place_keeps_it_also_when_its_queue_limit_was_just_reached(status: Status) -> None:
    record = step(queued(limits=Limits(queue=1)), dispatch(), NOW).record
    record = record if status is Status.PREPARING else step(record, Progress(1, status), NOW).record
    after = step(record, Expire(), later(10**6))
    assert (after.record, after.events) == (record, ())


def test_each_wait_in_the_queue_counts_by_itself_from_when_the_task_may_start() -> None:
    record = step(running(retries=1, limits=Limits(queue=1)), End(1, failed()), later(500)).record
    assert record.ready_at == later(500) + backoff(record.id, 1)
    assert step(record, Expire(), record.ready_at).record == record
    late = record.ready_at + timedelta(seconds=1)
    assert step(record, Expire(), late).record.status is Status.TIMED_OUT


def test_an_end_is_not_expired() -> None:
    record = ended(succeeded(), limits=Limits(queue=1))
    assert step(record, Expire(), later(10**6)).record == record


def test_a_stall_is_noted_once_and_moves_nothing() -> None:
    record = running(limits=Limits(stall=300))
    after = step(record, Stalled(1, 1), later(400))
    assert (after.record.status, after.record.task.attempts[-1].stalls) == (Status.RUNNING, 1)
    [note] = after.events
    assert (note.kind, note.status, note.attempt) == (EventKind.NOTE, Status.RUNNING, 1)
    assert "300 s" in (note.message or "")
    assert refused(after.record, Stalled(1, 1)).duplicate
    assert step(after.record, Stalled(1, 3), later(900)).record.task.attempts[-1].stalls == 3


def test_a_stall_of_an_attempt_that_was_replaced_is_refused() -> None:
    assert not refused(running(attempt=2), Stalled(1, 1)).duplicate
    assert not refused(ended(succeeded()), Stalled(1, 1)).duplicate


def snapshot(number: int = 1, attempt: int = 1) -> Snapshot:
    return Snapshot(attempt=attempt, number=number, at=NOW, files=2, size=2048)


def test_a_snapshot_is_noted_once_and_moves_nothing() -> None:
    record = running()
    first = Tell(1, News(message="Snapshot 1.", made=snapshot(1)))
    after = step(record, first, later(600))
    assert (after.record.status, after.record.task.attempts[-1].snapshot) == (Status.RUNNING, snapshot(1))
    assert [(e.kind, e.attempt, e.message) for e in after.events] == [(EventKind.NOTE, 1, "Snapshot 1.")]
    assert refused(after.record, first).duplicate
    third = step(after.record, Tell(1, News(message="Snapshot 3.", made=snapshot(3))), later(1200)).record
    assert third.task.attempts[-1].snapshot == snapshot(3)
    assert refused(third, Tell(1, News(message="Snapshot 2.", made=snapshot(2)))).duplicate, "a late one is no newer"


def test_snapshots_beyond_a_thousand_are_known_and_make_no_event() -> None:
    step_ = step(running(), Tell(1, News(message="one more", made=snapshot(1001))), NOW)
    assert step_.record.task.attempts[-1].snapshot == snapshot(1001)
    assert step_.events == ()


def test_an_attempt_says_once_what_it_went_on_from() -> None:
    news = Tell(2, News(message="It goes on.", resumed_from=snapshot(3)))
    after = step(running(attempt=2), news, NOW)
    assert (after.record.task.attempts[-1].resumed_from, len(after.events)) == (snapshot(3), 1)
    assert refused(after.record, news).duplicate


def test_news_of_an_attempt_that_was_replaced_are_refused() -> None:
    late = Tell(1, News(message="late", made=snapshot()))
    assert not refused(running(attempt=2), late).duplicate
    assert not refused(ended(succeeded()), late).duplicate


def test_only_failures_that_the_rule_names_are_tried_again() -> None:
    record = running(retries=2, retry=Retry(on=("signal", "exit-code:75")))
    temporary = failed().model_copy(update={"exit_code": 75})
    record = step(record, End(1, temporary), NOW).record
    assert (record.status, record.failures) == (Status.QUEUED, 1)
    record = step(record, dispatch(), NOW).record
    after = step(record, End(2, failed()), NOW)
    assert (after.record.status, after.record.failures) == (Status.FAILED, 2)
    assert "not tried again" in (after.events[-1].message or "")
    assert after.record.task.result == 2


def test_the_exit_code_of_a_command_that_could_not_be_started_counts_too() -> None:
    why = Reason(code=ReasonCode.EXIT_CODE, message="There is none.", evidence={"exit_code": 127})
    outcome = Outcome(status=Status.FAILED, reason=why)
    record = step(running(retries=1, retry=Retry(on=("exit-code:127",))), End(1, outcome), NOW).record
    assert record.status is Status.QUEUED


def test_a_lost_machine_is_made_good_whatever_the_rule_names() -> None:
    record = step(running(retries=1, retry=Retry(on=("signal",))), Lost(1, LOST), NOW).record
    assert (record.status, record.losses, record.failures) == (Status.QUEUED, 1, 0)


def test_a_task_out_of_memory_asks_for_twice_as_much_up_to_what_the_user_allowed() -> None:
    record = queued(retries=4, retry=Retry(memory=3 * GIB), resources=Resources(memory=GIB))
    asked = []
    for number in range(1, 5):
        record = step(record, dispatch(), NOW).record
        code = ReasonCode.EXIT_CODE if number == 2 else ReasonCode.OUT_OF_MEMORY
        after = step(record, End(number, failed(code)), NOW)
        record = after.record
        asked.append((record.task.resources.memory // MIB, "MiB" in (after.events[-1].message or "")))
    assert asked == [(2048, True), (2048, False), (3072, True), (3072, False)]
    assert record.task.resources.cpus == 1


def test_the_last_that_failed_attempts_printed_is_kept_of_the_newest_ones() -> None:
    record = queued(retries=9)
    for number in range(1, 6):
        record = step(record, dispatch(), NOW).record
        outcome = failed().model_copy(update={"stdout_tail": f"out {number}", "stderr_tail": f"err {number}"})
        record = step(record, End(number, outcome), NOW).record
    tails = [(a.stdout_tail, a.stderr_tail) for a in record.task.attempts]
    assert tails == [("", ""), ("", ""), ("out 3", "err 3"), ("out 4", "err 4"), ("out 5", "err 5")]
    assert all(a.machine == "node-1" and a.reason is not None for a in record.task.attempts)


@pytest.mark.parametrize(("end", "cost"), [(End(1, failed()), (1, 0)), (Lost(1, LOST), (0, 1))])
def test_what_an_attempt_cost_is_given_back_once(end: Stimulus, cost: tuple[int, int]) -> None:
    record = step(running(retries=2), end, NOW).record
    assert (record.failures, record.losses) == cost
    after = step(record, Forgive(1), later(0))
    assert (after.record.failures, after.record.losses, after.record.ready_at) == (0, 0, NOW)
    assert after.record.task.attempts[0].is_forgiven
    assert [(e.kind, e.attempt) for e in after.events] == [(EventKind.NOTE, 1)]
    again = step(after.record, Forgive(1), later(0))
    assert (again.record, again.events) == (after.record, ())


def test_a_task_that_runs_again_elsewhere_is_forgiven_too_and_runs_on() -> None:
    record = step(step(running(retries=2), End(1, failed()), NOW).record, dispatch(), later(9)).record
    after = step(record, Forgive(1), later(10)).record
    assert (after.failures, after.status, after.lease_until) == (0, Status.PREPARING, record.lease_until)
    assert [a.is_forgiven for a in after.task.attempts] == [True, False]
    assert (after.holder, after.ready_at) == (record.holder, record.ready_at)


def test_nothing_is_given_back_to_a_task_that_has_ended_or_was_not_charged() -> None:
    charged = step(running(retries=2), End(1, failed()), NOW).record
    undelivered = step(step(queued(), dispatch(), NOW).record, Undelivered(1), NOW).record
    preempted = step(running(), Lost(1, reason(ReasonCode.PREEMPTED)), NOW).record
    for record in (queued(), running(), undelivered, preempted, ended(failed()), ended(succeeded())):
        after = step(record, Forgive(1), later(5))
        assert (after.record, after.events) == (record, ())
    assert step(charged, Forgive(2), NOW).record == charged


def test_a_task_costs_what_its_attempts_have_cost_at_the_price_with_which_each_began() -> None:
    record = step(queued(), replace(dispatch(), usd_per_hour=3.6), NOW).record
    assert (record.task.attempts[-1].usd_per_hour, record.task.cost_usd, record.cost_month) == (3.6, None, None)
    assert record.task.cost_at(later(100)) == pytest.approx(0.1), "what goes on counts up to now"
    assert record.task.cost_at(later(-5)) == 0.0, "a clock that was set back gives nothing back"
    record = step(record, Lost(1, LOST), later(100)).record
    assert record.task.cost_usd == pytest.approx(0.1)
    assert (record.cost, record.cost_month) == (100_000, "2026-03")
    record = step(record, replace(dispatch(), usd_per_hour=7.2), later(200)).record
    assert record.task.cost_usd == pytest.approx(0.1)
    assert record.cost_month == "2026-03"
    assert record.task.cost_at(later(250)) == pytest.approx(0.2)
    ended_at = later(31 * 86400)
    record = step(record, Cancel(), later(300)).record
    cancelled = Outcome(status=Status.CANCELLED, stored=False)
    record = step(record, End(2, cancelled), ended_at).record
    assert record.task.cost_usd == pytest.approx(0.1 + (31 * 86400 - 200) * 0.002)
    assert record.cost_month == "2026-04"
    assert record.task.cost_at(later(10**9)) == record.task.cost_usd


def test_attempts_that_are_not_kept_any_more_have_cost_something_all_the_same() -> None:
    record = queued()
    for _ in range(KEPT_ATTEMPTS + 5):
        record = step(record, replace(dispatch(), usd_per_hour=3600.0), NOW).record
        preempted = reason(ReasonCode.PREEMPTED)
        record = step(record, Lost(record.attempt, preempted), later(1)).record
    assert len(record.task.attempts) == KEPT_ATTEMPTS
    assert record.task.cost_usd == KEPT_ATTEMPTS + 5


def test_without_a_price_nothing_is_said_of_the_cost_and_a_later_price_counts_from_then() -> None:
    record = step(queued(), dispatch(), NOW).record
    assert record.task.cost_at(later(100)) is None
    record = step(record, Lost(1, LOST), later(100)).record
    assert (record.task.cost_usd, record.cost) == (None, None)
    record = step(record, replace(dispatch(), usd_per_hour=3.6), later(100)).record
    record = step(record, Lost(2, LOST), later(110)).record
    assert record.task.cost_usd == pytest.approx(0.01)
    assert ended(succeeded()).task.cost_usd is None
