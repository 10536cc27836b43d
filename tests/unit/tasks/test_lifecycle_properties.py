"""Whatever comes, in whatever order: what must always be true of a task."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulators.outcome import Outcome
from simulators.work import News
from simyard.checkpoint import Snapshot
from simyard.dependency import Dependency, IfDependencyFails
from simyard.reason import ReasonCode
from simyard.resources import Limits
from simyard.status import MOVES, Status
from tasks.dependencies import begun, edges_of
from tasks.errors import Refused
from tasks.lifecycle import (
    ADOPTION_BUDGET,
    LOSS_BUDGET,
    Adopt,
    Cancel,
    Dispatch,
    End,
    Expire,
    Forgive,
    Hold,
    Lost,
    Progress,
    Release,
    Renew,
    Reused,
    Settled,
    Stalled,
    Step,
    Stimulus,
    Tell,
    Undelivered,
    Wait,
    new_record,
    step,
)
from tests.unit.tasks.samples import NOW, dispatch, draft, reason

CODES = st.sampled_from(
    [
        ReasonCode.EXIT_CODE,
        ReasonCode.OUT_OF_MEMORY,
        ReasonCode.MACHINE_LOST,
        ReasonCode.PREEMPTED,
        ReasonCode.INTERNAL,
        ReasonCode.CANCELLED_BY_USER,
    ]
)
OUTCOMES = st.builds(
    Outcome,
    status=st.sampled_from(list(Status)),
    reason=st.none() | CODES.map(reason),
    exit_code=st.none() | st.integers(0, 2),
    stored=st.booleans(),
)
# Mostly the newest attempt; sometimes one of the past, of the future, or none at all.
OFFSETS = st.sampled_from([0, 0, 0, 0, -1, -2, 1, -99, 10**12])
SECONDS = st.integers(-100, 1000)


class Life(RuleBasedStateMachine):
    @initialize(
        retries=st.integers(0, 3),
        queue=st.none() | st.sampled_from([60.0, 600.0]),
        waits=st.booleans(),
        holds=st.booleans(),
        reuse=st.booleans(),
    )
    def submit(self, retries: int, queue: float | None, waits: bool, holds: bool, reuse: bool) -> None:
        self.now, self.holds_back = NOW, waits and holds
        after = (Dependency(task="t000000000001"),) if waits else ()
        fails = IfDependencyFails.HOLD if self.holds_back else IfDependencyFails.END
        limits = Limits(queue=queue)
        sent = draft(retries=retries, limits=limits, after=after, if_dependency_fails=fails, reuse=reuse)
        edges = edges_of(sent, lambda _: Status.RUNNING)
        self.record = begun(new_record(sent, 1, self.now), edges, lambda _: Status.RUNNING, self.now).record
        assert self.record.status is (Status.WAITING if waits else Status.QUEUED)
        self.results = 0

    def send(self, stimulus: Stimulus) -> Step | None:
        before = self.record
        self.now += timedelta(seconds=1)
        try:
            after = step(before, stimulus, self.now)
        except Refused:
            return None
        assert step(before, stimulus, self.now) == after, "the same input gives the same answer"
        status = before.status
        for event in after.events:
            if event.status is not status:
                # An attempt-lost event tells the status that the next event moves to.
                assert event.status in MOVES[status]
                status = event.status
        assert status is after.record.status, "no move without an event"
        if before.status.is_end:
            assert after.record == before, "an end is for ever"
            assert after.events == ()
        grown = after.record.attempt - before.attempt
        assert grown == (1 if isinstance(stimulus, Dispatch) else 0), "only a dispatch makes an attempt, and one"
        # To forgive is a decision of the dispatcher about the past, and no report.
        attempt = None if isinstance(stimulus, Forgive) else getattr(stimulus, "attempt", None)
        if attempt is not None and not (before.status.is_active and attempt == before.attempt):
            raise AssertionError("a report of a stale attempt must be refused")
        if isinstance(stimulus, End) and after.record.status is Status.SUCCEEDED:
            assert stimulus.outcome.stored
        if before.task.result != after.record.task.result:
            assert before.task.result is None
            self.results += 1
        earlier = after.record.task.attempts[: len(before.task.attempts)]
        for old, new in zip(before.task.attempts, earlier, strict=True):
            if old.ended_at is not None:
                kept = new.model_copy(update={"is_forgiven": old.is_forgiven})
                assert old == kept, "an attempt that ended does not change, but that it may be forgiven"
                assert old.is_forgiven <= new.is_forgiven
        self.record = after.record
        return after

    @rule(until=SECONDS)
    def dispatch(self, until: int) -> None:
        was = self.record.status
        after = self.send(dispatch(until=until))
        assert (after is not None) == (was is Status.QUEUED and not self.record.task.held)

    @rule(offset=OFFSETS, status=st.sampled_from(list(Status)))
    def progress(self, offset: int, status: Status) -> None:
        self.send(Progress(self.record.attempt + offset, status))

    @rule(offset=OFFSETS, seconds=SECONDS)
    def renew(self, offset: int, seconds: int) -> None:
        before = self.record.lease_until
        if self.send(Renew(self.record.attempt + offset, NOW + timedelta(seconds=seconds))):
            assert before is not None
            assert self.record.lease_until is not None
            assert self.record.lease_until >= before

    @rule(offset=OFFSETS, seconds=SECONDS, is_late=st.booleans())
    def adopt(self, offset: int, seconds: int, is_late: bool) -> None:
        before = self.record
        gone = "sim-99" if is_late else before.holder or "none"
        stimulus = Adopt(before.attempt + offset, f"sim-{self.now.timestamp()}", gone, NOW + timedelta(seconds=seconds))
        if self.send(stimulus):
            assert not is_late, "of two who take over, one comes too late"
            assert (before.attempt, before.status) == (self.record.attempt, self.record.status), "nothing is repeated"
            assert (before.losses, before.failures) == (self.record.losses, self.record.failures)
            assert self.record.holder == stimulus.holder != before.holder
            assert self.record.task.attempts[-1].adoptions <= ADOPTION_BUDGET

    @rule(offset=OFFSETS, outcome=OUTCOMES)
    def end(self, offset: int, outcome: Outcome) -> None:
        attempt = self.record.attempt + offset
        if self.send(End(attempt, outcome)):
            try:
                step(self.record, End(attempt, outcome), self.now)
            except Refused:
                pass
            else:
                raise AssertionError("an end must be taken once")

    @rule(offset=OFFSETS, code=CODES, holder=st.sampled_from([None, "sim-1", "sim-99"]))
    def lose(self, offset: int, code: ReasonCode, holder: str | None) -> None:
        before = self.record.holder
        if self.send(Lost(self.record.attempt + offset, reason(code), holder)):
            assert holder in {None, before}, "what another process carries is not lost"

    @rule(offset=OFFSETS)
    def undelivered(self, offset: int) -> None:
        before = self.record
        if self.send(Undelivered(self.record.attempt + offset)):
            assert (self.record.losses, self.record.failures) == (before.losses, before.failures)

    @rule()
    def cancel(self) -> None:
        before = self.record
        assert self.send(Cancel()) is not None, "a cancel is never refused"
        assert self.record.task.cancel_requested or before.status.is_end

    @rule(held=st.booleans(), is_last=st.booleans())
    def hold_or_release(self, held: bool, is_last: bool) -> None:
        before = self.record
        assert self.send(Hold() if held else Release(is_last=is_last)) is not None, "neither is ever refused"
        assert not self.record.has_failed_dependency or held
        if before.has_failed_dependency and not held and is_last:
            assert self.record.status is Status.QUEUED
            return
        assert self.record.status is before.status
        assert before.status.is_end or self.record.task.held is held
        assert not (held and self.record.status is Status.QUEUED) or self.record.queue_until is None

    @rule(offset=OFFSETS, number=st.integers(0, 3))
    def stall(self, offset: int, number: int) -> None:
        before = self.record
        if self.send(Stalled(before.attempt + offset, number)):
            assert self.record.status is before.status
            assert self.record.task.attempts[-1].stalls == number > before.task.attempts[-1].stalls

    @rule(attempt=st.integers(0, 5))
    def forgive(self, attempt: int) -> None:
        before = self.record
        after = self.send(Forgive(attempt) if attempt else Forgive(before.attempt))
        assert after is not None, "to forgive is never refused"
        given_back = (before.failures - self.record.failures) + (before.losses - self.record.losses)
        assert given_back == len(after.events) <= 1
        assert min(self.record.failures, self.record.losses) >= 0

    @rule(offset=OFFSETS, number=st.integers(1, 4))
    def tell(self, offset: int, number: int) -> None:
        before = self.record
        snapshot = Snapshot(attempt=max(1, before.attempt), number=number, at=self.now, files=1, size=1)
        if self.send(Tell(before.attempt + offset, News(message="kept", made=snapshot))):
            assert self.record.status is before.status
            last = before.task.attempts[-1].snapshot
            assert last is None or last.number < number, "a snapshot never takes the place of a newer one"

    @rule()
    def reuse(self) -> None:
        was = self.record
        after = self.send(Reused(source="t000000000001", result=3))
        assert (after is not None) == (was.status is Status.QUEUED and was.task.reuse)

    @rule(seconds=st.integers(0, 400))
    def expire(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        before = self.record
        late = before.status is Status.QUEUED and before.queue_until is not None
        late = late and self.now + timedelta(seconds=1) >= (before.queue_until or self.now)
        assert self.send(Expire()) is not None, "that a task has waited too long is never refused"
        assert (self.record.status is Status.TIMED_OUT) == (late or before.status is Status.TIMED_OUT)

    @rule(status=st.sampled_from(list(Status)), is_met=st.booleans(), is_last=st.booleans())
    def settled(self, status: Status, is_met: bool, is_last: bool) -> None:
        before = self.record
        assert self.send(Settled("t000000000001", status, is_met, is_last)) is not None, "it is never refused"
        if before.status is not Status.WAITING:
            assert self.record == before
        elif is_met:
            assert (self.record.status is Status.QUEUED) == is_last
        else:
            assert self.record.has_failed_dependency == self.holds_back
            assert (self.record.status is Status.FAILED) != self.holds_back

    @rule(code=CODES)
    def wait(self, code: ReasonCode) -> None:
        before = self.record.status
        assert self.send(Wait(reason(code))) is not None
        assert self.record.status is before

    @invariant()
    def holds(self) -> None:
        record, task = self.record, self.record.task
        assert self.results <= 1
        assert (task.ended_at is not None) == record.status.is_end
        assert (task.result is not None) <= record.status.is_end
        assert task.result in {None, record.attempt} or task.reused_from is not None
        assert (task.reused_from is not None) <= (record.status is Status.SUCCEEDED and task.reuse)
        assert (record.holder is not None) == (record.lease_until is not None) == record.status.is_active
        assert [a.number for a in task.attempts] == list(range(1, record.attempt + 1))
        assert all(a.ended_at is not None for a in task.attempts[:-1])
        if task.attempts:
            assert (task.attempts[-1].ended_at is None) == record.status.is_active
        assert record.losses <= LOSS_BUDGET + 1
        assert record.losses <= LOSS_BUDGET or record.status.is_end
        assert record.failures <= record.retries + 1
        assert (task.reason is None) or record.status is not Status.SUCCEEDED
        assert (task.reason is not None) or record.status not in {Status.FAILED, Status.CANCELLED, Status.TIMED_OUT}
        if record.status is Status.CANCELLED:
            assert task.cancel_requested


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
