"""A task: what is submitted, and what the server says of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from simyard.checkpoint import Checkpoint, Snapshot
from simyard.dependency import MAX_DEPENDENCIES, Dependency, IfDependencyFails, InputFrom
from simyard.files import MAX_FILES, InputFile, Staged
from simyard.reason import Reason
from simyard.resources import Limits, Resources
from simyard.retry import Retry
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.words import Moment, Name, SweepIdText, TaskIdText, Word

Value = str | int | float | bool
"""What a parameter or a metadata entry may hold."""

TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Metadata = Annotated[dict[Name, Value], Field(max_length=100)]

LOCAL_GROUP = "local"
"""The group of the machines that `simyard up` itself provides."""

_NO_RETRY = Retry()


def _kind_of_input(value: Any) -> str:
    if isinstance(value, dict):
        return "from" if "sha256" not in value and ("task" in value or "key" in value) else "file"
    return "from" if isinstance(value, InputFrom) else "file"


Input = Annotated[Annotated[InputFile, Tag("file")] | Annotated[InputFrom, Tag("from")], Discriminator(_kind_of_input)]
"""A file of the task's own, or outputs of another task."""


class TaskSpec(Word):
    """What a user submits: one run of a simulator over one set of input files."""

    simulator: Name
    version: Name | None = None
    """None takes the newest version; the answer names it."""
    runtime: RuntimeName | None = None
    """None takes the first runtime of the version that the machines have."""
    parameters: dict[str, Value] = Field(default_factory=dict)
    commands: tuple[Command, ...] = Field(default=(), max_length=100)
    """Commands to run instead of those that the simulator builds from its parameters."""
    inputs: tuple[Input, ...] = Field(min_length=1, max_length=MAX_FILES)
    """Files of its own, and outputs of other tasks; where both have a path, its own file is taken."""
    resources: Resources = Resources()
    limits: Limits = Limits()
    group: Name = LOCAL_GROUP
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher runs first; equal ones run in the order of submission."""
    name: TaskName | None = None
    project: Name = "default"
    metadata: Metadata = Field(default_factory=dict)
    retries: int = Field(default=0, ge=0, le=100)
    """How often the task may be tried again after a failure of its own."""
    retry: Retry = _NO_RETRY
    """Which failures these are."""
    checkpoint: Checkpoint | None = None
    """How a next attempt goes on from where this one stood; None takes what the simulator declares."""
    reuse: bool = False
    """Take the result of an earlier task that did exactly the same, where there is one, and compute nothing."""
    after: tuple[Dependency, ...] = Field(default=(), max_length=MAX_DEPENDENCIES)
    """Tasks that must have ended before this one may start."""
    if_dependency_fails: IfDependencyFails = IfDependencyFails.END

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The input files of its own."""
        return tuple([one for one in self.inputs if isinstance(one, InputFile)])

    @property
    def inputs_from(self) -> tuple[InputFrom, ...]:
        """What it takes of the outputs of other tasks."""
        return tuple([one for one in self.inputs if isinstance(one, InputFrom)])

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """Every task that it waits for, each named once: those of `after`, and those whose outputs it takes."""
        taken = self.inputs_from
        if not self.after and not taken:
            return ()
        found = {one.named: one for one in self.after}
        for one in taken:
            found.setdefault(one.named, Dependency.model_construct(task=one.task, key=one.key))
        return tuple(found.values())

    @model_validator(mode="after")
    def _dependencies_are_clear(self) -> TaskSpec:
        if len({one.named for one in self.after}) != len(self.after):
            raise ValueError("after: a task is named twice; name each once")
        count = len(self.dependencies)
        if count > MAX_DEPENDENCIES:
            raise ValueError(f"inputs: it would wait for {count} tasks; {MAX_DEPENDENCIES} are the most")
        if self.if_dependency_fails is IfDependencyFails.HOLD and not count:
            raise ValueError("if_dependency_fails: it waits for no task; name one in `after`, or leave this out")
        if self.reuse and self.inputs_from:
            raise ValueError("reuse: what it takes of other tasks is not known beforehand; leave it out")
        return self

    @model_validator(mode="after")
    def _retry_can_be(self) -> TaskSpec:
        if self.retry != _NO_RETRY and not self.retries:
            raise ValueError("retries: `retry` says what is tried again, but nothing is; give a number of retries")
        if self.retry.memory is not None and self.retry.memory <= self.resources.memory:
            raise ValueError("retry: `memory` is no more than the task has at first; ask for more, or leave it out")
        return self

    @model_validator(mode="after")
    def _paths_are_distinct(self) -> TaskSpec:
        files = self.files
        paths = {file.path for file in files}
        if len(paths) != len(files):
            raise ValueError("inputs: two files have the same path; send each path once")
        for path in paths:
            parts = path.split("/")
            for i in range(1, len(parts)):
                if "/".join(parts[:i]) in paths:
                    raise ValueError(f"inputs: {'/'.join(parts[:i])!r} is both a file and a folder; rename one")
        return self


class Attempt(Word):
    """One try at a task on one machine; its number is the fencing token."""

    number: int = Field(ge=1)
    machine: str
    """Name of the machine: its host name and Ray node id."""
    others: tuple[str, ...] = ()
    """Names of the other machines, where the task runs on several at once."""
    runtime: RuntimeName | None = None
    created_at: Moment
    started_at: Moment | None = None
    """When the commands started."""
    ended_at: Moment | None = None
    adoptions: int = Field(default=0, ge=0)
    """How often another process took it over from one that had died, with nothing repeated."""
    reason: Reason | None = None
    """Why it ended; None while it goes on and after success."""
    exit_code: int | None = None
    peak_memory: int | None = None
    """Bytes."""
    cpu_seconds: float | None = None
    staged: Staged | None = None
    """Where its input files came from, once its commands have ended; None where nobody has told."""
    output_bytes: int | None = None
    """Bytes that its outputs took in the storage when they were stored; None where nobody has counted them."""
    stdout_tail: str = ""
    """The last 1000 bytes that a failed attempt printed, as text; kept of the newest ones only."""
    stderr_tail: str = ""
    is_forgiven: bool = False
    """It is not counted among the task's failures, since its machine was at fault."""
    stalls: int = 0
    """How often it gave no output for as long as the stall limit says."""
    snapshot: Snapshot | None = None
    """The newest snapshot that it has made."""
    resumed_from: Snapshot | None = None
    """The snapshot that it went on from; None where it began with the inputs alone."""
    usd_per_hour: float | None = None
    """US dollars that its share of the machine costs, as it was when it began; None where no price is known."""

    def cost_at(self, now: datetime) -> float | None:
        """Return the US dollars that it has cost up to its end, or to now; None where no price is known."""
        if self.usd_per_hour is None:
            return None
        return max((self.ended_at or now) - self.created_at, timedelta(0)) / timedelta(hours=1) * self.usd_per_hour


class Case(Word):
    """One row of a sweep's table of parameters, of which a task was made."""

    sweep: SweepIdText
    number: int = Field(ge=1)
    """Counted from 1 in the order of the table."""
    values: dict[str, Value]
    """The row's values by their columns."""


class Task(Word):
    """What the server says of a task."""

    id: TaskIdText
    name: str | None
    project: str
    simulator: str
    version: str
    runtime: RuntimeName | None
    status: Status
    reason: Reason | None
    """Why it ended other than by success, or why it waits."""
    parameters: dict[str, Value]
    commands: tuple[Command, ...]
    resources: Resources
    limits: Limits
    retry: Retry = _NO_RETRY
    checkpoint: Checkpoint | None = None
    """None where nothing is kept for a next attempt: neither the user nor the simulator declares restart files."""
    group: str
    priority: int
    metadata: dict[str, Value]
    created_at: Moment
    started_at: Moment | None
    """When the commands of the newest attempt started."""
    ended_at: Moment | None
    cancel_requested: bool
    held: bool = False
    """It does not start before somebody releases it."""
    attempts: tuple[Attempt, ...]
    result: int | None
    """The number of the attempt whose outputs are the task's result; one of `reused_from` where that is given."""
    outputs_removed_at: Moment | None = None
    """Since when its outputs and logs are not in the storage any more; its rows of the tables may still be."""
    case: Case | None = None
    """Which case of a sweep it is; None where it was submitted by itself."""
    reuse: bool = False
    """Whether the result of an earlier task may be taken."""
    reused_from: TaskIdText | None = None
    """The earlier task whose result this task has; None where it was computed."""
    after: tuple[Dependency, ...] = ()
    """Every task that it waits or has waited for, those whose outputs it takes among them."""
    inputs_from: tuple[InputFrom, ...] = ()
    """What it takes of the outputs of other tasks."""
    if_dependency_fails: IfDependencyFails = IfDependencyFails.END
    cost_usd: float | None = None
    """US dollars that its attempts which have ended cost; None where no price of any is known."""

    def cost_at(self, now: datetime) -> float | None:
        """Return the US dollars that all its attempts have cost up to now; None where no price is known."""
        going = [one.cost_at(now) for one in self.attempts if one.ended_at is None]
        known = [cost for cost in (self.cost_usd, *going) if cost is not None]
        return sum(known) if known else None


class Explanation(Word):
    """Why a task stands where it stands, with the evidence."""

    task: TaskIdText
    status: Status
    summary: str
    """One sentence."""
    details: tuple[str, ...]
    """What was observed, oldest first."""
    next: str | None
    """What the user may do about it."""
    position: int | None = None
    """About how many tasks start before it; None where it is not in the queue or does not move on in it."""
    expected_start: Moment | None = None
    """When it may start; None where nothing is known to estimate it from. The summary says what it comes from."""
