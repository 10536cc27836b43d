"""What the durable store keeps of a task, and what goes in and comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from simulators.outcome import Outcome
from simyard.errors import SimyardError
from simyard.reason import ReasonCode
from simyard.status import Status
from simyard.task import Case, Task, TaskSpec
from simyard.words import SweepId, TaskId

__all__ = [
    "MICROS",
    "Draft",
    "Lane",
    "Outcome",
    "Submission",
    "SweepDraft",
    "SweepQuery",
    "SweepRecord",
    "SweepSubmission",
    "TaskQuery",
    "TaskRecord",
    "month_of",
]


MICROS = 1_000_000
"""Millionths in a US dollar: so fine are costs added up."""


def month_of(moment: datetime) -> str:
    """Return the calendar month of a moment in UTC, such as `2026-11`."""
    return moment.astimezone(UTC).strftime("%Y-%m")


class Draft(NamedTuple):
    """A task that is to be submitted; its spec names the version, the runtime and the commands."""

    id: TaskId
    spec: TaskSpec
    user: str
    digest: str
    """Hash of the request as the user sent it: the same key with another digest is a conflict."""
    key: str | None = None
    """Idempotency key, unique for a user."""
    fingerprint: str | None = None
    """Hash of all that decides the result; None where no later task may have it."""
    case: Case | None = None
    """Which case of a sweep it is; only `submit_sweep` takes a draft that is one."""


class Lane(NamedTuple):
    """The queued tasks of one user's project in one machine group."""

    group: str
    user: str
    project: str


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """A task with what only the queue itself needs to know."""

    task: Task
    seq: int
    """Grows with each submission: the age of the task."""
    user: str
    retries: int
    """How many failures of its own the user lets the task try again."""
    failures: int = 0
    losses: int = 0
    """Attempts lost with their machine; preempted ones do not count."""
    ready_at: datetime
    """A queued task is not dispatched before."""
    lease_until: datetime | None = None
    """Until when the current attempt counts as alive; None without one."""
    holder: str | None = None
    """Name of the Ray actor that carries the current attempt; None without one."""

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    # The dispatcher asks each running task for these two at each turn, and mostly the task is the same.

    @cached_property
    def lane(self) -> Lane:
        """The lane in which it queues."""
        return Lane(self.task.group, self.user, self.task.project)

    @cached_property
    def key(self) -> tuple[str, int]:
        """Its id, and the number of the newest attempt."""
        return self.task.id, self.attempt

    @property
    def status(self) -> Status:
        """Where the task stands."""
        return self.task.status

    @property
    def has_failed_dependency(self) -> bool:
        """Say whether it waits for a user to let it go on, since a task that it waits for has failed."""
        reason = self.task.reason
        return self.status is Status.WAITING and reason is not None and reason.code is ReasonCode.DEPENDENCY_FAILED

    @property
    def queue_until(self) -> datetime | None:
        """When a queued task has waited as long as its queue limit says; None without a limit and while it is held.

        The time begins when the task may start: a pause before a next attempt does not count.
        """
        limit = self.task.limits.queue
        return None if limit is None or self.task.held else self.ready_at + timedelta(seconds=limit)

    @property
    def outputs_of(self) -> str:
        """The task below whose id the outputs are stored: an earlier one where its result was taken."""
        return self.task.reused_from or self.task.id

    @property
    def output_bytes(self) -> int | None:
        """Bytes that the task's own outputs take in the storage; None where nobody has counted them."""
        task = self.task
        if task.outputs_removed_at is not None or task.reused_from is not None:
            return 0
        if any(one.number == task.result and one.output_bytes is None for one in task.attempts):
            return None
        return sum(one.output_bytes or 0 for one in task.attempts)

    @property
    def cost(self) -> int | None:
        """Millionths of a US dollar that its ended attempts have cost; None where no price is known."""
        return None if self.task.cost_usd is None else round(self.task.cost_usd * MICROS)

    @property
    def cost_month(self) -> str | None:
        """The month in which the newest ended attempt ended, to which its cost counts; None without one."""
        ended = [one.ended_at for one in self.task.attempts[-2:] if one.ended_at is not None]
        return month_of(ended[-1]) if ended else None

    @property
    def attempt(self) -> int:
        """The number of the newest attempt; 0 before the first."""
        return self.task.attempts[-1].number if self.task.attempts else 0


class Submission(NamedTuple):
    """The answer to one draft: either a task or an error."""

    id: str | None = None
    """The task's id."""
    make: Callable[[], TaskRecord] | None = None
    """Gives the task's record, which few ask for."""
    created: bool = False
    """False where the same request had been accepted before."""
    error: SimyardError | None = None
    body: str | None = None
    """The record's task in JSON, where the store has just put it into words."""

    @classmethod
    def of(cls, record: TaskRecord, *, created: bool = False, body: str | None = None) -> Submission:
        """Return the answer with this record."""
        return cls(id=record.task.id, make=lambda: record, created=created, body=body)

    @property
    def record(self) -> TaskRecord | None:
        """The record of the draft's task."""
        return None if self.make is None else self.make()

    @property
    def text(self) -> str:
        """The record's task in JSON."""
        if self.body is not None:
            return self.body
        assert self.make is not None
        return self.make().task.model_dump_json()


@dataclass(frozen=True, kw_only=True)
class TaskQuery:
    """Which tasks to list; None asks nothing of a field."""

    status: Status | None = None
    simulator: str | None = None
    project: str | None = None
    name: str | None = None
    group: str | None = None
    user: str | None = None
    sweep: str | None = None
    reused_from: str | None = None
    """Only tasks that have the result of this one."""
    before: int | None = None
    """Only tasks whose `seq` is smaller: the cursor of the next page."""
    limit: int = 100


@dataclass(frozen=True, kw_only=True)
class SweepDraft:
    """A sweep that is to be submitted together with the tasks of its cases."""

    id: SweepId
    user: str
    key: str | None = None
    """Idempotency key, unique for a user's sweeps."""
    digest: str
    """Hash of the request as the user sent it: the same key with another digest is a conflict."""
    name: str | None
    project: str
    simulator: str
    version: str
    columns: tuple[str, ...]
    """The names of its parameters."""


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """A sweep as it is stored; nothing of it ever changes but what it cost."""

    draft: SweepDraft
    seq: int
    """Grows with each sweep: its age."""
    cases: int
    """How many tasks it has."""
    created_at: datetime
    cost: int | None = None
    """Millionths of a US dollar that the ended attempts at its tasks have cost; None where no price is known."""

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.draft.id


@dataclass(frozen=True, kw_only=True)
class SweepSubmission:
    """The answer to a sweep that was submitted."""

    record: SweepRecord
    created: bool
    """False where the same request had been accepted before."""


@dataclass(frozen=True, kw_only=True)
class SweepQuery:
    """Which sweeps to list; None asks nothing of a field."""

    user: str | None = None
    key: str | None = None
    before: int | None = None
    """Only sweeps whose `seq` is smaller: the cursor of the next page."""
    limit: int = 100
