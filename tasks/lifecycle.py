"""The life of a task as a pure function: what each stimulus makes of a record, without clock, network or disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from simulators.outcome import Outcome
from simyard.dependency import IfDependencyFails
from simyard.errors import InvalidInput
from simyard.event import EventKind
from simyard.reason import Reason, ReasonCode
from simyard.resources import MIB
from simyard.retry import RETRYABLE
from simyard.status import MOVES, Status
from simyard.task import Attempt, Task
from simyard.words import checked_before
from tasks.errors import Refused
from tasks.record import Draft, TaskRecord
from tasks.stimulus import (
    Adopt,
    Cancel,
    Dispatch,
    End,
    Expire,
    Forgive,
    Hold,
    Lost,
    OutputsRemoved,
    Progress,
    Release,
    Renew,
    Reused,
    Settled,
    Stalled,
    Stimulus,
    Tell,
    Undelivered,
    Wait,
)

__all__ = [
    "ADOPTION_BUDGET",
    "LOSS_BUDGET",
    "Adopt",
    "Cancel",
    "Dispatch",
    "End",
    "Expire",
    "Forgive",
    "Happened",
    "Hold",
    "Lost",
    "OutputsRemoved",
    "Progress",
    "Refused",
    "Release",
    "Renew",
    "Reused",
    "Settled",
    "Stalled",
    "Step",
    "Stimulus",
    "Tell",
    "Undelivered",
    "Wait",
    "backoff",
    "new_record",
    "step",
]

LOSS_BUDGET = 5
"""How many attempts a task may lose with their machines before it fails."""
ADOPTION_BUDGET = 20
"""How often an attempt may be taken over before it counts as lost: it may itself be what ends them."""
KEPT_ATTEMPTS = 100
"""A task shows its newest attempts; preemptions alone could make any number of them."""
TOLD_SNAPSHOTS = 1000
"""How many snapshots of an attempt are told as events; the attempt itself always names the newest one."""
KEPT_TAILS = 3
"""How many of the newest attempts keep the last that they printed: a record is read at every turn."""
_INFRASTRUCTURE = frozenset({ReasonCode.MACHINE_LOST, ReasonCode.PREEMPTED})
_FIRST_BACKOFF, _LONGEST_BACKOFF = 2.0, 300.0


@dataclass(frozen=True, kw_only=True)
class Happened:
    """An event before the store gives it a number."""

    kind: EventKind
    status: Status
    """The task's status after the event."""
    attempt: int | None = None
    reason: Reason | None = None
    message: str | None = None


_SUBMITTED = (Happened(kind=EventKind.SUBMITTED, status=Status.QUEUED),)


@dataclass(frozen=True)
class Step:
    """The record after a stimulus, and what happened on the way."""

    record: TaskRecord
    events: tuple[Happened, ...] = ()


def backoff(task: str, tries: int) -> timedelta:
    """Return how long to wait after the given number of tries (from 1): 2 s doubling to 300 s, less up to half.

    The part that is taken off differs from task to task and from try to try, so that tasks that failed together do
    not come back together; it is derived from both, so that the same input gives the same answer.
    """
    full = min(_FIRST_BACKOFF * 2.0 ** min(tries - 1, 32), _LONGEST_BACKOFF)
    draw = int.from_bytes(hashlib.sha256(f"{task}:{tries}".encode()).digest()[:8]) / 2**64
    return timedelta(seconds=full * (1.0 - draw / 2))


def new_record(draft: Draft, seq: int, now: datetime) -> Step:
    """Return the record of a task that was just submitted: queued and ready.

    Raises:
        InvalidInput: the spec names no version.
    """
    spec = draft.spec
    if spec.version is None:
        raise InvalidInput("The version must be resolved before a task is stored.", field="version")
    # Not validated once more: every value comes from a spec that was, and a batch brings ten thousand of them.
    fields = {
        "id": draft.id,
        "name": spec.name,
        "project": spec.project,
        "simulator": spec.simulator,
        "version": spec.version,
        "runtime": spec.runtime,
        "status": Status.QUEUED,
        "reason": None,
        "parameters": spec.parameters,
        "commands": spec.commands,
        "resources": spec.resources,
        "limits": spec.limits,
        "retry": spec.retry,
        "checkpoint": spec.checkpoint,
        "group": spec.group,
        "priority": spec.priority,
        "metadata": spec.metadata,
        "created_at": now,
        "started_at": None,
        "ended_at": None,
        "cancel_requested": False,
        "held": False,
        "attempts": (),
        "result": None,
        "outputs_removed_at": None,
        "case": draft.case,
        "reuse": spec.reuse,
        "reused_from": None,
        "after": spec.after,
        "inputs_from": spec.inputs_from if spec.after else (),
        "if_dependency_fails": spec.if_dependency_fails,
        "cost_usd": None,
    }
    record = TaskRecord(task=checked_before(Task, fields), seq=seq, user=draft.user, retries=spec.retries, ready_at=now)
    return Step(record, _SUBMITTED)


def step(record: TaskRecord, stimulus: Stimulus, now: datetime) -> Step:
    """Return what the stimulus makes of the record.

    Raises:
        Refused: the stimulus is late, doubled, out of order, or asks for a move that is not allowed.
    """
    match stimulus:
        case Dispatch():
            return _dispatch(record, stimulus, now)
        case Progress():
            return _progress(record, stimulus, now)
        case Renew(attempt, lease_until):
            _require_current(record, attempt)
            held = record.lease_until
            return Step(replace(record, lease_until=lease_until if held is None else max(held, lease_until)))
        case Adopt():
            return _adopt(record, stimulus)
        case End(attempt, outcome):
            return _end(record, attempt, _checked(outcome, record), now)
        case Lost(attempt, reason, holder):
            _require_current(record, attempt, Outcome(status=Status.FAILED, reason=reason))
            _require_holder(record, holder)
            return _lost(record, _closed(record, now, reason=reason), reason, now)
        case Undelivered(attempt):
            return _undelivered(record, attempt, now)
        case Reused():
            return _reused(record, stimulus, now)
        case Stalled():
            return _stalled(record, stimulus)
        case Tell():
            return _tell(record, stimulus)
        case Expire():
            return _expire(record, now)
        case Forgive(attempt):
            return _forgive(record, attempt, now)
        case Cancel():
            return _cancel(record, now)
        case Hold():
            return _hold(record)
        case Release():
            return _release(record, now, is_last=stimulus.is_last)
        case OutputsRemoved():
            return _outputs_removed(record, now)
        case Settled():
            return _settled(record, stimulus, now)
        case Wait(reason):
            return _wait(record, reason)
        case _:
            assert_never(stimulus)


def _dispatch(record: TaskRecord, stimulus: Dispatch, now: datetime) -> Step:
    if record.status is not Status.QUEUED:
        raise Refused(f"The task is {record.status}; only a queued one can be dispatched.")
    if record.task.held:
        raise Refused("The task is held.")
    attempt = Attempt(
        number=record.attempt + 1,
        machine=stimulus.machine,
        others=stimulus.others,
        runtime=stimulus.runtime,
        created_at=now,
        usd_per_hour=stimulus.usd_per_hour,
    )
    needed = record.task.resources
    if needed.whole_machine and stimulus.resources is not None:
        needed = stimulus.resources
    return _move(
        record,
        Status.PREPARING,
        task={
            "attempts": (*record.task.attempts, attempt)[-KEPT_ATTEMPTS:],
            "runtime": stimulus.runtime,
            "resources": needed,
            "reason": None,
            "started_at": None,
        },
        queue={"holder": stimulus.holder, "lease_until": stimulus.lease_until},
    )


def _progress(record: TaskRecord, stimulus: Progress, now: datetime) -> Step:
    status = stimulus.status
    if status not in {Status.RUNNING, Status.FINALIZING}:
        raise Refused(f"An attempt cannot report that it is {status}.")
    _require_current(record, stimulus.attempt)
    if status is record.status:
        raise Refused(f"The attempt has reported before that it is {status}.", duplicate=True)
    task: dict[str, Any] = {}
    if status is Status.RUNNING:
        task = {"attempts": _with_last(record, started_at=now), "started_at": now}
    return _move(record, status, task=task)


def _adopt(record: TaskRecord, stimulus: Adopt) -> Step:
    _require_current(record, stimulus.attempt)
    _require_holder(record, stimulus.instead_of)
    adoptions = record.task.attempts[-1].adoptions + 1
    if adoptions > ADOPTION_BUDGET:
        raise Refused(f"The attempt has been taken over {ADOPTION_BUDGET} times already.")
    task = record.task.model_copy(update={"attempts": _with_last(record, adoptions=adoptions)})
    message = "The process that carried it has gone; another one on its machine takes it over."
    note = Happened(kind=EventKind.NOTE, status=record.status, attempt=stimulus.attempt, message=message)
    lease_until = stimulus.lease_until if record.lease_until is None else max(record.lease_until, stimulus.lease_until)
    return Step(replace(record, task=task, holder=stimulus.holder, lease_until=lease_until), (note,))


def _end(record: TaskRecord, attempt: int, outcome: Outcome, now: datetime) -> Step:
    _require_current(record, attempt, outcome)
    closed = _closed(
        record,
        now,
        reason=outcome.reason,
        exit_code=outcome.exit_code,
        peak_memory=outcome.peak_memory,
        cpu_seconds=outcome.cpu_seconds,
        staged=outcome.staged,
        output_bytes=outcome.output_bytes if outcome.stored else None,
        stdout_tail=outcome.stdout_tail,
        stderr_tail=outcome.stderr_tail,
    )
    reason = outcome.reason
    if reason is not None and reason.code in _INFRASTRUCTURE:
        return _lost(record, closed, reason, now)
    message = None
    if outcome.status is Status.FAILED and reason is not None and reason.code in RETRYABLE:
        failures = record.failures + 1
        closed = replace(closed, failures=failures)
        if failures <= record.retries and not record.task.cancel_requested:
            if record.task.retry.covers(reason.code, _exit_code(outcome)):
                return _again(closed, reason, now)
            message = "It is not tried again: its `retry` does not name such a failure."
    end = {"reason": reason, "ended_at": now, "result": attempt if outcome.stored else None}
    if outcome.status in MOVES[record.status]:
        return _move(closed, outcome.status, task=end, reason=reason, message=message)
    # A report on the way may have been lost with the network: the end itself says that the outputs are stored.
    between = _move(closed, Status.FINALIZING)
    last = _move(between.record, outcome.status, task=end, reason=reason, message=message)
    return Step(last.record, between.events + last.events)


def _again(closed: TaskRecord, reason: Reason, now: datetime) -> Step:
    """Return the record queued as its next attempt, after a failure that the user's retries pay for."""
    task: dict[str, Any] = {"reason": reason}
    message = f"It is tried again, {closed.failures} of {closed.retries}"
    most, had = closed.task.retry.memory, closed.task.resources.memory
    if reason.code is ReasonCode.OUT_OF_MEMORY and most is not None and had < most:
        memory = min(2 * had, most)
        task["resources"] = closed.task.resources.model_copy(update={"memory": memory})
        message += f", with {memory // MIB} MiB of memory"
    queue = {"ready_at": now + backoff(closed.id, closed.failures)}
    return _move(closed, Status.QUEUED, task=task, queue=queue, reason=reason, message=f"{message}.")


def _exit_code(outcome: Outcome) -> int | None:
    """Return the exit code of a failure, also of a command that could not be started."""
    if outcome.exit_code is not None or outcome.reason is None:
        return outcome.exit_code
    said = outcome.reason.evidence.get("exit_code")
    return said if isinstance(said, int) else None


def _lost(record: TaskRecord, closed: TaskRecord, reason: Reason, now: datetime) -> Step:
    losses = record.losses + (reason.code is not ReasonCode.PREEMPTED)
    closed = replace(closed, losses=losses)
    if record.task.cancel_requested:
        after = _ended(closed, Status.CANCELLED, _CANCELLED, now)
    elif losses > LOSS_BUDGET:
        after = _ended(closed, Status.FAILED, reason, now)
    else:
        # The first loss is mostly the machine's fault and costs no time; a task that goes on losing may be the cause.
        pause = backoff(record.id, losses - 1) if losses > 1 else timedelta(0)
        after = _move(closed, Status.QUEUED, task={"reason": reason}, queue={"ready_at": now + pause}, reason=reason)
    lost = Happened(kind=EventKind.ATTEMPT_LOST, status=after.record.status, attempt=record.attempt, reason=reason)
    return Step(after.record, (lost, *after.events))


def _undelivered(record: TaskRecord, attempt: int, now: datetime) -> Step:
    _require_current(record, attempt, Outcome(status=Status.FAILED, reason=_UNDELIVERED))
    if record.status is not Status.PREPARING:
        raise Refused(f"The attempt is {record.status}, so it was delivered.")
    closed = _closed(record, now, reason=_UNDELIVERED)
    if record.task.cancel_requested:
        return _ended(closed, Status.CANCELLED, _CANCELLED, now)
    return _move(closed, Status.QUEUED, queue={"ready_at": now}, reason=_UNDELIVERED)


def _reused(record: TaskRecord, stimulus: Reused, now: datetime) -> Step:
    if record.status is not Status.QUEUED or not record.task.reuse:
        raise Refused(f"The task is {record.status}; only a queued one that asks for it has an earlier one's result.")
    end = {"reason": None, "ended_at": now, "result": stimulus.result, "reused_from": stimulus.source}
    message = f"Its result is that of task {stimulus.source}, which did exactly the same."
    return _move(record, Status.SUCCEEDED, task=end, message=message)


def _stalled(record: TaskRecord, stimulus: Stalled) -> Step:
    _require_current(record, stimulus.attempt)
    if stimulus.number <= record.task.attempts[-1].stalls:
        raise Refused("The attempt has reported this stall before.", duplicate=True)
    task = record.task.model_copy(update={"attempts": _with_last(record, stalls=stimulus.number)})
    message = f"The attempt has given no output for {task.limits.stall or 0.0:g} s."
    note = Happened(kind=EventKind.NOTE, status=record.status, attempt=stimulus.attempt, message=message)
    return Step(replace(record, task=task), (note,))


def _tell(record: TaskRecord, stimulus: Tell) -> Step:
    _require_current(record, stimulus.attempt)
    news, last = stimulus.news, record.task.attempts[-1]
    made, resumed = news.made or last.snapshot, news.resumed_from or last.resumed_from
    is_known = made is not None and last.snapshot is not None and made.number <= last.snapshot.number
    if (news.made is not None and is_known) or (news.resumed_from is not None and resumed == last.resumed_from):
        raise Refused("The attempt has told this before.", duplicate=True)
    changes = {"attempts": _with_last(record, snapshot=made, resumed_from=resumed)}
    after = replace(record, task=record.task.model_copy(update=changes))
    if news.made is not None and news.made.number > TOLD_SNAPSHOTS:
        return Step(after)
    return Step(
        after,
        (Happened(kind=EventKind.NOTE, status=record.status, attempt=stimulus.attempt, message=news.message),),
    )


def _expire(record: TaskRecord, now: datetime) -> Step:
    limit, until = record.task.limits.queue, record.queue_until
    if record.status is not Status.QUEUED or limit is None or until is None or now < until:
        return Step(record)
    message = f"It found no place within its limit of {limit:g} s in the queue. Raise --queue-limit."
    evidence = {"limit": "queue", "seconds": limit}
    return _ended(record, Status.TIMED_OUT, Reason(code=ReasonCode.TIME_LIMIT, message=message, evidence=evidence), now)


def _forgive(record: TaskRecord, attempt: int, now: datetime) -> Step:
    found = next((a for a in record.task.attempts if a.number == attempt), None)
    if found is None or found.is_forgiven or record.status.is_end:
        return Step(record)
    code = found.reason.code if found.reason is not None and found.reason != _UNDELIVERED else None
    failures, losses = record.failures - (code in RETRYABLE), record.losses - (code is ReasonCode.MACHINE_LOST)
    if (failures, losses) == (record.failures, record.losses) or min(failures, losses) < 0:
        return Step(record)
    forgiven = found.model_copy(update={"is_forgiven": True})
    attempts = tuple(forgiven if a is found else a for a in record.task.attempts)
    message = f"Attempt {attempt} is not counted: its machine was set aside."
    note = Happened(kind=EventKind.NOTE, status=record.status, attempt=attempt, message=message)
    task = record.task.model_copy(update={"attempts": attempts})
    ready_at = min(record.ready_at, now) if record.status is Status.QUEUED else record.ready_at
    return Step(replace(record, task=task, failures=failures, losses=losses, ready_at=ready_at), (note,))


def _cancel(record: TaskRecord, now: datetime) -> Step:
    if record.status.is_end or record.task.cancel_requested:
        return Step(record)
    asked = replace(record, task=record.task.model_copy(update={"cancel_requested": True}))
    if not record.status.is_active:
        return _ended(asked, Status.CANCELLED, _CANCELLED, now)
    event = Happened(kind=EventKind.CANCEL_REQUESTED, status=record.status, attempt=record.attempt)
    return Step(asked, (event,))


def _hold(record: TaskRecord) -> Step:
    if record.status.is_end or record.task.held:
        return Step(record)
    reason = record.task.reason if record.status.is_active else _HELD
    held = replace(record, task=record.task.model_copy(update={"held": True, "reason": reason}))
    return Step(held, (Happened(kind=EventKind.NOTE, status=record.status, message="It is held."),))


def _release(record: TaskRecord, now: datetime, *, is_last: bool) -> Step:
    if record.status.is_end or not record.task.held:
        return Step(record)
    goes_on = record.has_failed_dependency
    reason = None if goes_on or record.task.reason == _HELD else record.task.reason
    task = record.task.model_copy(update={"held": False, "reason": reason})
    # The queue limit counts from when the task may start.
    ready_at = max(record.ready_at, now) if record.status is Status.QUEUED else record.ready_at
    note = Happened(kind=EventKind.NOTE, status=record.status, message="It was released.")
    released = replace(record, task=task, ready_at=ready_at)
    if not (goes_on and is_last):
        return Step(released, (note,))
    started = _let_start(released, now)
    return Step(started.record, (note, *started.events))


def _outputs_removed(record: TaskRecord, now: datetime) -> Step:
    if not record.status.is_end:
        raise Refused(f"The task is {record.status}; only the outputs of one that has ended are removed.")
    if record.task.outputs_removed_at is not None:
        return Step(record)
    removed = replace(record, task=record.task.model_copy(update={"outputs_removed_at": now}))
    return Step(removed, (Happened(kind=EventKind.NOTE, status=record.status, message="Its outputs were removed."),))


def _settled(record: TaskRecord, stimulus: Settled, now: datetime) -> Step:
    if record.status is not Status.WAITING:
        return Step(record)
    if stimulus.is_met:
        return _let_start(record, now) if stimulus.is_last else Step(record)
    message = f"Task {stimulus.task}, which it waited for, ended as {stimulus.status}."
    evidence = {"task": stimulus.task, "status": stimulus.status.value}
    reason = Reason(code=ReasonCode.DEPENDENCY_FAILED, message=message, evidence=evidence)
    if record.task.if_dependency_fails is IfDependencyFails.END:
        return _ended(record, Status.FAILED, reason, now)
    if record.has_failed_dependency:
        return Step(record)
    held = replace(record, task=record.task.model_copy(update={"held": True, "reason": reason}))
    return Step(held, (Happened(kind=EventKind.NOTE, status=record.status, reason=reason),))


def _let_start(record: TaskRecord, now: datetime) -> Step:
    return _move(record, Status.QUEUED, queue={"ready_at": now})


def _wait(record: TaskRecord, reason: Reason) -> Step:
    if record.status is not Status.QUEUED or record.task.reason == reason:
        return Step(record)
    waiting = replace(record, task=record.task.model_copy(update={"reason": reason}))
    if record.task.reason is not None and record.task.reason.code is reason.code:
        return Step(waiting)
    return Step(waiting, (Happened(kind=EventKind.NOTE, status=record.status, reason=reason),))


_CANCELLED = Reason(code=ReasonCode.CANCELLED_BY_USER, message="It was cancelled.")
_HELD = Reason(code=ReasonCode.HELD, message="It is held.")
_UNDELIVERED = Reason(
    code=ReasonCode.MACHINE_LOST,
    message="The attempt could not be handed to its machine; it does not count as a loss.",
    evidence={"delivered": False},
)


def _move(
    record: TaskRecord,
    status: Status,
    *,
    task: dict[str, Any] | None = None,
    queue: dict[str, Any] | None = None,
    reason: Reason | None = None,
    message: str | None = None,
) -> Step:
    """Return the record in another status, when the table allows the move."""
    if status not in MOVES[record.status]:
        raise Refused(f"A task that is {record.status} cannot become {status}.")
    moved = replace(record, task=record.task.model_copy(update={"status": status, **(task or {})}), **(queue or {}))
    number = moved.attempt if status.is_active or record.status.is_active else None
    event = Happened(kind=EventKind.STATUS, status=status, attempt=number, reason=reason, message=message)
    return Step(moved, (event,))


def _ended(record: TaskRecord, status: Status, reason: Reason, now: datetime) -> Step:
    return _move(record, status, task={"reason": reason, "ended_at": now}, reason=reason)


def _closed(record: TaskRecord, now: datetime, **ending: Any) -> TaskRecord:
    """Return the record with its attempt ended and nobody holding it; its status is yet to be moved."""
    attempts = _with_last(record, ended_at=now, **ending)
    forgotten = {"stdout_tail": "", "stderr_tail": ""}
    older = tuple(a.model_copy(update=forgotten) for a in attempts[:-KEPT_TAILS])
    # Not the sum of the attempts, of which only the newest are kept.
    costs = [cost for cost in (record.task.cost_usd, attempts[-1].cost_at(now)) if cost is not None]
    ended = {"attempts": older + attempts[-KEPT_TAILS:], "cost_usd": sum(costs) if costs else None}
    task = record.task.model_copy(update=ended)
    return replace(record, task=task, holder=None, lease_until=None)


def _with_last(record: TaskRecord, **changes: Any) -> tuple[Attempt, ...]:
    *earlier, last = record.task.attempts
    return (*earlier, last.model_copy(update=changes))


def _checked(outcome: Outcome, record: TaskRecord) -> Outcome:
    """Return the outcome in the only forms that the rest needs to know."""
    if not outcome.status.is_end:
        raise Refused(f"{outcome.status} is no end.")
    if outcome.status is Status.SUCCEEDED:
        if outcome.stored:
            return outcome.model_copy(update={"reason": None})
        message = "The attempt reported success, but its outputs were not stored."
        reason = Reason(code=ReasonCode.INTERNAL, message=message)
        return outcome.model_copy(update={"status": Status.FAILED, "reason": reason})
    if outcome.status is Status.CANCELLED and not record.task.cancel_requested:
        # Nobody asked for it: whoever stopped the attempt was not the user, so the task itself goes on.
        message = "The attempt was stopped although nobody had cancelled the task."
        return outcome.model_copy(update={"reason": Reason(code=ReasonCode.MACHINE_LOST, message=message)})
    if outcome.reason is None:
        reason = Reason(code=ReasonCode.INTERNAL, message="The attempt gave no reason for its end.")
        if outcome.status is Status.CANCELLED:
            reason = _CANCELLED
        return outcome.model_copy(update={"reason": reason})
    return outcome


def _require_current(record: TaskRecord, attempt: int, end: Outcome | None = None) -> None:
    """Refuse a report of any attempt but the one that goes on; `end` is the end that it reports, if it does."""
    if record.status.is_active and attempt == record.attempt:
        return
    known = next((a for a in record.task.attempts if a.number == attempt), None)
    if known is None:
        raise Refused(f"There is no attempt {attempt}; the newest is {record.attempt}.")
    if end is not None and _is_same_end(record, known, end):
        raise Refused(f"Attempt {attempt} has reported this end before.", duplicate=True)
    now = "goes on" if record.status.is_active else f"is {record.status}"
    raise Refused(f"Attempt {attempt} is over: the task {now}, and its newest attempt is {record.attempt}.")


def _require_holder(record: TaskRecord, holder: str | None) -> None:
    """Refuse what is said of a process that does not carry the attempt any more."""
    if holder is not None and holder != record.holder:
        raise Refused(f"{holder} does not carry the attempt any more; {record.holder} does.")


def _is_same_end(record: TaskRecord, known: Attempt, end: Outcome) -> bool:
    if record.status.is_end and known.number == record.attempt and end.stored != (record.task.result == known.number):
        return False
    was = (known.reason, known.exit_code, known.peak_memory, known.cpu_seconds)
    return was == (end.reason, end.exit_code, end.peak_memory, end.cpu_seconds)
