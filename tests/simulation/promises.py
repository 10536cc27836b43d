"""The promises of the queue, checked after every step by somebody who keeps books of his own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from simulators.outcome import Outcome
from simyard.dependency import DependencyEnd
from simyard.reason import ReasonCode
from simyard.retry import RETRYABLE
from simyard.status import MOVES, Status
from tasks.lifecycle import (
    ADOPTION_BUDGET,
    LOSS_BUDGET,
    Adopt,
    Dispatch,
    End,
    Expire,
    Forgive,
    Lost,
    OutputsRemoved,
    Release,
    Reused,
    Settled,
    Stimulus,
    Tell,
)
from tasks.memory import MemoryStore
from tasks.record import Draft, Submission, TaskQuery, TaskRecord
from tasks.rules import Load, Rules, loads_of, over
from tests.simulation.world import PromiseBroken, World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.actors import Actor, Cluster, Run, SimMachine
    from tests.simulation.checkpointing import Kept
    from tests.simulation.process import Process
    from tests.simulation.reusing import Results

LEASE = 30.0
CANCEL_BOUND = 900.0
"""Seconds of simulated time within which a cancelled task has ended, while faults go on."""
END_BOUND = 3600.0
"""Seconds within which all tasks have ended once the faults have stopped."""
TAKEOVERS, TAKEOVER_SECONDS = 6, 3.0
"""So many takeovers of one attempt are not made within so many seconds."""
_PLACES = {status: frozenset({status}) | MOVES[status] for status in Status}


class Life:
    """What the books say of one task."""

    __slots__ = (
        "accepted",
        "draft",
        "handed",
        "is_forgotten",
        "newest",
        "number",
        "parents",
        "poison",
        "record",
        "released",
        "run",
        "told",
    )

    def __init__(self, draft: Draft, number: int, *, poison: bool) -> None:
        self.draft = draft
        self.number = number
        """Grows with each task that a user sends."""
        self.poison = poison
        self.accepted = False
        """A user holds the answer that it was accepted."""
        self.record: TaskRecord | None = None
        """As the last write left it."""
        self.run: Run | None = None
        """The newest attempt that an actor has begun."""
        self.handed = 0
        """How many of its attempts were given to an actor."""
        self.newest = 0
        self.told: int | None = None
        """The attempt whose actor was told that its result is taken."""
        self.parents: dict[str, bool] = {}
        """The tasks that it waits for, and whether they must succeed."""
        self.released = False
        """A user lets it go on although one of them has failed."""
        self.is_forgotten = False

    @property
    def has_ended(self) -> bool:
        """Say whether it was there and has ended."""
        return self.record is not None and self.record.status.is_end


class Promises:
    """The books, and the checks against them."""

    def __init__(self, world: World, store: MemoryStore) -> None:
        self.world = world
        self.store = store
        self.lives: dict[str, Life] = {}
        self.by_key: dict[tuple[str, str], str] = {}
        self.manifests: dict[tuple[str, int], tuple[Outcome, int]] = {}
        self.looked: dict[tuple[str, int], int] = {}
        """At which step the dispatcher last looked whether an attempt's outputs are stored."""
        self.cancel_bound = CANCEL_BOUND
        self.open: dict[str, Life] = {}
        """The tasks that are there and have not ended."""
        self.broken: str | None = None
        self.submitted = 0
        self._takeovers: dict[tuple[str, int], deque[float]] = {}
        self._speaker: Process | None = None
        self.kept: Kept | None = None
        """The snapshots, where some are kept."""
        self.results: Results | None = None
        """What may be reused, where users do that."""

    def fail(self, promise: str) -> NoReturn:
        """Stop the world."""
        self.broken = self.broken or promise
        raise PromiseBroken(promise)

    @contextmanager
    def said_by(self, process: Process) -> Iterator[None]:
        """Know which dispatcher writes meanwhile."""
        self._speaker = process
        try:
            yield
        finally:
            self._speaker = None

    # What users are told.

    def drafted(self, draft: Draft, *, poison: bool) -> None:
        """Take note that a user sends a task."""
        self.lives[draft.id] = Life(draft, len(self.lives), poison=poison)

    def answered(self, draft: Draft, answer: Submission, *, arrives: bool) -> None:
        """Check the answer to a submission; `arrives` says that the user gets it."""
        record = answer.record
        if record is None and self._lacks_parent(draft):
            return
        if record is None:
            self.fail(f"a request that fits its key was refused: {answer.error}")
        life = self.lives.get(record.id)
        if life is None:
            self.fail(f"task {record.id} was invented")
        if draft.key is not None:
            first = self.by_key.setdefault((draft.user, draft.key), record.id)
            if first != record.id:
                self.fail(f"the key {draft.key} gave the tasks {first} and {record.id}")
        if answer.created:
            if life.record is not None:
                self.fail(f"task {record.id} was created twice")
            self.submitted += 1
            life.record = record
            life.parents = {str(one.task): one.end is DependencyEnd.SUCCESS for one in record.task.after}
            if record.status.is_end:
                self._ended(life, record)
            else:
                self.open[record.id] = life
        elif record is not life.record:
            self.fail(f"task {record.id} is not what the last write had left")
        life.accepted = life.accepted or arrives

    def _lacks_parent(self, draft: Draft) -> bool:
        """Say whether a task that a draft waits for was forgotten."""
        forgotten = [life.draft for life in self.lives.values() if life.is_forgotten]
        gone = {one.id for one in forgotten} | {one.key for one in forgotten if one.user == draft.user}
        return any(one.task in gone or (one.key is not None and one.key in gone) for one in draft.spec.after)

    def forgot(self, life: Life) -> None:
        """Take note that an ended task was forgotten with its key."""
        life.is_forgotten = True
        self.by_key.pop((life.draft.user, life.draft.key or ""), None)
        for name, other in self.open.items():
            if life.draft.id in other.parents:
                self.fail(f"{life.draft.id} was forgotten, and {name} waits for it")

    def open_ones(self) -> list[Life]:
        """Return the tasks that have not ended, in the order in which users sent them."""
        return sorted(self.open.values(), key=lambda life: life.number)

    # What happens to tasks.

    def wrote(self, task: str, stimulus: Stimulus, before: TaskRecord, after: TaskRecord) -> None:
        """Check one write of the store."""
        life = self.lives[task]
        if before is not life.record:
            self.fail(f"{task} changed without a write")
        life.record = after
        lead = None if self._speaker is None else self._speaker.lead
        if lead is not None:
            lead.row.books.decided(stimulus, lead)
        was, is_ = before.status, after.status
        if was.is_end:
            removed = before.task.outputs_removed_at or after.task.outputs_removed_at
            if isinstance(stimulus, OutputsRemoved):
                before = replace(before, task=before.task.model_copy(update={"outputs_removed_at": removed}))
            if after is not before and after != before:
                self.fail(f"{task} had ended as {was} and was changed by {stimulus}")
            return
        if is_ is not was and not self._may(was, is_, stimulus):
            self.fail(f"{task} moved from {was} to {is_} by {stimulus}")
        number = after.attempt
        if number != before.attempt + isinstance(stimulus, Dispatch):
            self.fail(f"{task} went from attempt {before.attempt} to {number} by {stimulus}")
        attempt = getattr(stimulus, "attempt", None)
        if isinstance(stimulus, Forgive):
            self._forgiven(stimulus, before, after)
        elif attempt is not None and (attempt != before.attempt or not was.is_active):
            self.fail(f"{task} is {was} at attempt {before.attempt} and took {stimulus}")
        if (after.holder is None) == is_.is_active or (after.lease_until is None) == is_.is_active:
            self.fail(f"{task} is {is_} and its holder is {after.holder} until {after.lease_until}")
        held = before.lease_until if is_ is was else None
        if held is not None and after.lease_until is not None and after.lease_until < held:
            self.fail(f"the lease of {task} became shorter by {stimulus}")
        if isinstance(stimulus, Dispatch):
            self._may_start(life, before, after, stimulus.usd_per_hour or 0.0)
            if self.results is not None:
                self.results.starts(life)
        elif isinstance(stimulus, Tell):
            assert self.kept is not None
            self.kept.told(stimulus, before, after)
        elif isinstance(stimulus, Reused):
            assert self.results is not None
            self.results.took(life, stimulus, after)
        elif isinstance(stimulus, Settled):
            self._settled(life, stimulus)
        elif isinstance(stimulus, Release):
            life.released = life.released or before.has_failed_dependency
        elif isinstance(stimulus, Adopt):
            self._adopted(stimulus, before, after)
        elif isinstance(stimulus, Expire) and after is not before:
            self._expired(before)
        elif isinstance(stimulus, Lost):
            self._lost(life, stimulus)
        if not isinstance(stimulus, Forgive):
            self._charged(stimulus, before, after)
        if is_.is_end:
            del self.open[task]
            self._ended(life, after)

    def _may_start(self, life: Life, before: TaskRecord, after: TaskRecord, costs: float) -> None:
        """Nobody starts before those that it waits for have ended as they must, or while something keeps it."""
        for parent in life.parents:
            if not self._is_met(life, parent) and not life.released:
                self.fail(f"{before.id} was started before {parent}, which it waits for, had ended as it must")
        if before.task.held:
            self.fail(f"{before.id} is held and was started")
        # What users say while the dispatcher thinks counts for its next turn.
        rules = Rules() if self._speaker is None else self._speaker.rules
        if (pause := rules.pause_of(before.lane)) is not None:
            self.fail(f"{before.id} was started in spite of {pause}")
        active = (record for record in self.store.active() if record.id != before.id)
        loads = loads_of(active, self.world.now())
        for quota in rules.quotas_of(before):
            load = loads.get(quota.account, Load())
            if (reason := over(quota, load, after.task.resources, 0, 0.0, costs)) is not None:
                self.fail(f"{before.id} was started in spite of a quota: {reason.message}")

    def _is_met(self, life: Life, parent: str) -> bool:
        record = self.lives[parent].record
        if record is None or not record.status.is_end:
            return False
        return record.status is Status.SUCCEEDED or not life.parents[parent]

    def _settled(self, life: Life, stimulus: Settled) -> None:
        """Who waits is told how those ended that it waits for, and nothing else."""
        record = self.lives[stimulus.task].record
        if stimulus.task not in life.parents or record is None or record.status is not stimulus.status:
            self.fail(f"{life.draft.id} was told {stimulus}, which is not so")
        if stimulus.is_met is not self._is_met(life, stimulus.task):
            self.fail(f"{life.draft.id} was told {stimulus}, and waits for its success: {life.parents}")

    @staticmethod
    def _may(was: Status, to: Status, stimulus: Stimulus) -> bool:
        if to in _PLACES[was]:
            return True
        # The end of an attempt whose reports on the way were lost says that it was finalizing.
        return isinstance(stimulus, End) and Status.FINALIZING in _PLACES[was] and to in _PLACES[Status.FINALIZING]

    def _charged(self, stimulus: Stimulus, before: TaskRecord, after: TaskRecord) -> None:
        """An attempt that fails or is lost costs the task one of its budgets, and nothing else does."""
        losses = failures = 0
        reason = after.task.attempts[-1].reason if isinstance(stimulus, Lost | End) else None
        if reason is not None:
            losses = reason.code is ReasonCode.MACHINE_LOST
            failures = (
                reason.code in RETRYABLE and isinstance(stimulus, End) and stimulus.outcome.status is Status.FAILED
            )
        if (after.losses, after.failures) != (before.losses + losses, before.failures + failures):
            self.fail(
                f"{before.id} had {before.losses} losses and {before.failures} failures, and has {after.losses} and "
                f"{after.failures} after {stimulus}"
            )
        if after.status is Status.QUEUED and failures and after.failures > after.retries:
            self.fail(f"{before.id} is tried again after {after.failures} failures, and may {after.retries} times")
        if after.status is Status.QUEUED and losses and after.losses > LOSS_BUDGET:
            self.fail(f"{before.id} is tried again after {after.losses} losses")

    def _forgiven(self, stimulus: Forgive, before: TaskRecord, after: TaskRecord) -> None:
        cost = before.losses + before.failures - after.losses - after.failures
        was = [a.is_forgiven for a in before.task.attempts if a.number == stimulus.attempt]
        is_ = [a.is_forgiven for a in after.task.attempts if a.number == stimulus.attempt]
        if cost != is_.count(True) - was.count(True) or cost < 0:
            self.fail(f"{before.id} was forgiven attempt {stimulus.attempt}, which cost {cost}")

    def _adopted(self, stimulus: Adopt, before: TaskRecord, after: TaskRecord) -> None:
        if before.holder != stimulus.instead_of or after.holder != stimulus.holder:
            self.fail(f"{before.id} was carried by {before.holder} and is by {after.holder} after {stimulus}")
        if after.task.attempts[-1].adoptions > ADOPTION_BUDGET or after.status is not before.status:
            self.fail(f"{before.id} was taken over {after.task.attempts[-1].adoptions} times and is {after.status}")

    def _expired(self, before: TaskRecord) -> None:
        until = before.queue_until
        if until is None or until > self.world.now():
            self.fail(f"{before.id} may wait until {until} and was given up")

    def _lost(self, life: Life, stimulus: Lost) -> None:
        """An attempt is lost: then nobody may carry it with a lease that goes on, nor may its result be there."""
        run, at = life.run, self.world.at
        key = (life.draft.id, stimulus.attempt)
        if run is not None and run.attempt == stimulus.attempt and run.actor.run is run and not run.over:
            actor = run.actor
            well = actor.alive and not actor.declared_dead and actor.frozen_until <= at
            speaker = self._speaker
            if speaker is not None and speaker.lead is not None and speaker.cluster.name != actor.cluster:
                speaker.lead.row.books.lost(key)
            elif well and at - run.heard < LEASE - 1.0:
                self.fail(
                    f"attempt {key} was heard of {at - run.heard:.1f} s ago and goes on, and was taken as lost: "
                    f"{stimulus.reason.message}"
                )
        stored = self.manifests.get(key)
        if stored is not None and stored[1] < self.looked.get(key, -1):
            self.fail(f"the result of attempt {key} was stored, and it was taken as lost")

    def _ended(self, life: Life, record: TaskRecord) -> None:
        task, status = record.id, record.status
        result = record.task.result
        if result is not None:
            stored = self.manifests.get((record.outputs_of, result))
            if stored is None:
                self.fail(f"{task} names attempt {result} as its result, whose outputs are not stored")
            if stored[0].status is not status:
                self.fail(f"{task} is {status}, and its result says {stored[0].status}")
            if result != record.attempt and record.task.reused_from is None:
                self.fail(f"{task} names attempt {result} as its result, and its newest is {record.attempt}")
        elif status is Status.SUCCEEDED:
            self.fail(f"{task} succeeded without a result")
        failed = [parent for parent in life.parents if self._has_failed(life, parent)]
        if record.task.reason is not None and record.task.reason.code is ReasonCode.DEPENDENCY_FAILED and not failed:
            self.fail(f"{task} ended for a dependency that failed, and none has")
        if status is Status.CANCELLED and not record.task.cancel_requested:
            self.fail(f"{task} is cancelled and nobody asked for it")
        if record.losses > LOSS_BUDGET + 1 or record.failures > record.retries + 1:
            self.fail(f"{task} had {record.losses} losses and {record.failures} failures")
        reason = record.task.reason
        if (
            status is Status.FAILED
            and reason is not None
            and reason.code is ReasonCode.MACHINE_LOST
            and life.handed <= LOSS_BUDGET
        ):
            self.fail(f"{task} lost {record.losses} machines, and was handed over {life.handed} times")

    def _has_failed(self, life: Life, parent: str) -> bool:
        record = self.lives[parent].record
        return record is not None and record.status.is_end and not self._is_met(life, parent)

    def cancelled(self, task: str) -> None:
        """Take note that a user's cancel is on disk: soon the task must have ended."""
        self.world.after(self.cancel_bound, self._must_have_ended, task)

    def _must_have_ended(self, task: str) -> None:
        record = self.lives[task].record
        if record is not None and not record.status.is_end:
            self.fail(f"{task} was cancelled {self.cancel_bound:.0f} s ago and is {record.status} with {record.holder}")

    # What happens on machines.

    def handed(self, task: str, attempt: int) -> None:
        """Take note that an attempt is given to an actor: only such a one may cost the task a loss."""
        life = self.lives[task]
        life.handed += attempt > life.newest
        life.newest = max(life.newest, attempt)

    def is_poison(self, task: str) -> bool:
        """Say whether a task kills every actor that carries it."""
        return self.lives[task].poison

    def begun(self, run: Run) -> None:
        """Take note that an actor begins an attempt."""
        life = self.lives[run.task]
        if life.run is None or run.attempt >= life.run.attempt:
            life.run = run

    def committed(self, key: tuple[str, int], outcome: Outcome) -> None:
        """Take note that an attempt's manifest was created; an attempt has only one."""
        self.manifests.setdefault(key, (outcome, self.world.steps))

    def taken(self, run: Run, outcome: Outcome) -> None:
        """Check what an actor is told: its end is taken, so it removes its files."""
        life = self.lives[run.task]
        record = self.store.get(run.task)
        if outcome.status is Status.SUCCEEDED:
            if life.told is not None and life.told != run.attempt:
                self.fail(f"the attempts {life.told} and {run.attempt} of {run.task} were both told that they count")
            life.told = run.attempt
            if record.task.result != run.attempt:
                self.fail(f"attempt {run.attempt} of {run.task} was told that it counts, and it is {record.status}")

    def taken_over(self, task: str, attempt: int) -> None:
        """Check that an attempt which ends its actors is taken over more and more seldom."""
        self.handed(task, attempt)  # its hand-over may have been lost with the dispatcher
        before = self._takeovers.setdefault((task, attempt), deque(maxlen=TAKEOVERS))
        before.append(self.world.at)
        if len(before) == TAKEOVERS and before[-1] - before[0] < TAKEOVER_SECONDS:
            self.fail(f"attempt {attempt} of {task} was taken over {TAKEOVERS} times within {TAKEOVER_SECONDS:g} s")

    def ends(self, actor: Actor) -> None:
        """Check that nobody is ended who carries an attempt as its holder and was heard of within the lease."""
        run, at = actor.run, self.world.at
        if run is None or run.over or actor.frozen_until > at or at - run.heard >= LEASE - 1.0:
            return
        record = self.lives[run.task].record
        if (
            record is not None
            and record.status.is_active
            and (record.attempt, record.holder) == (run.attempt, actor.name)
        ):
            self.fail(f"{actor.name} was heard of {at - run.heard:.1f} s ago and was ended with attempt {run.attempt}")

    def given(self, actor: Actor, cluster: Cluster) -> None:
        """Check that a machine is not given more than it has; whoever takes a run over waits until there is room."""
        ids = {actor.machine.host.id, *actor.others}
        if len(ids) != actor.kind.resources.machines:
            self.fail(
                f"{actor.name} was to be on {actor.kind.resources.machines} machines, and is on {actor.others} too"
            )
        for one in sorted(ids & cluster.machines.keys()):  # one that has gone meanwhile gives nobody anything
            self._fits(actor, cluster.machines[one], cluster.actors.values())

    def _fits(self, actor: Actor, machine: SimMachine, actors: Iterable[Actor]) -> None:
        host = machine.host
        on_it = [*machine.actors.values(), *(a for a in actors if host.id in a.others)]
        there = [a for a in on_it if a.is_given and a.alive and not a.declared_dead]
        needs = [a.kind.resources for a in there]
        cpus, memory, gpus = sum(r.cpus for r in needs), sum(r.memory for r in needs), sum(r.gpus for r in needs)
        disk = sum(r.reserved_disk for r in needs)
        if cpus > host.cpus + 1e-6 or memory > host.memory or gpus > host.gpus or disk > host.disk:
            self.fail(f"{host} was given {cpus} cpus, {memory} and {disk} bytes and {gpus} gpus by {actor.name}")
        if len(needs) > 1 and any(need.whole_machine for need in needs):
            self.fail(f"{host} was to be for one task alone, and {actor.name} was given to it too")

    # Everything.

    def check_all(self) -> None:
        """Check the whole store against the books."""
        stored = self.store.list(TaskQuery(limit=10**9))
        there = sum(life.record is not None and not life.is_forgotten for life in self.lives.values())
        if len(stored) != there:
            self.fail(f"{there} tasks were stored, and {len(stored)} are there")
        for record in stored:
            life = self.lives.get(record.id)
            if life is None or life.record is not record or life.is_forgotten:
                self.fail(f"task {record.id} is not what the last write had left")
        for task, life in self.lives.items():
            if life.accepted and life.record is None:
                self.fail(f"{task} was accepted and is lost")
        by_status: dict[Status, int] = dict.fromkeys(Status, 0)
        for record in stored:
            by_status[record.status] += 1
        if by_status != self.store.counts():
            self.fail("the counts are wrong")
        active = {record.id for record in stored if record.status.is_active}
        if active != {record.id for record in self.store.active()}:
            self.fail("the active tasks are wrong")

    def check_end(self, actors: list[Actor], kept: dict[str, Any]) -> None:
        """Check a world in which all tasks have ended and all has been still for a while."""
        self.check_all()
        if actors:
            self.fail(f"these actors are kept for ever: {[actor.name for actor in actors]}")
        for what, things in kept.items():
            if things:
                self.fail(f"the dispatcher still keeps {what}: {things}")
