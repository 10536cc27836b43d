"""What a Simulator actor is asked to do, and to whom it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from simulators.outcome import Outcome
from simyard.checkpoint import Checkpoint, Snapshot
from simyard.dependency import InputFrom
from simyard.errors import Conflict
from simyard.files import InputFile
from simyard.resources import Limits, Resources
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import Value


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Which outputs of another task this one takes, and where they are put."""

    task: str
    attempt: int | None
    """The attempt whose outputs are the other task's result; None where it has none."""
    what: InputFrom


@dataclass(frozen=True, kw_only=True)
class Place:
    """Another machine on which a task runs besides the first one."""

    name: str
    """What people call it."""
    node: str
    """Ray's id of it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attempt at a task, with everything that it needs to know."""

    task: str
    attempt: int
    simulator: str
    version: str
    runtime: RuntimeName
    parameters: dict[str, Value]
    commands: tuple[Command, ...]
    inputs: tuple[InputFile, ...]
    resources: Resources
    limits: Limits
    project: str
    storage: str
    """URI of the storage."""
    checkpoint: Checkpoint | None = None
    """What is kept of it for a next attempt; None for nothing."""
    taken: tuple[Taken, ...] = ()
    others: tuple[Place, ...] = ()
    """The other machines, where the task runs on several."""

    @property
    def box(self) -> str:
        """The name that every process, container and folder of this attempt carries."""
        return box_of(self.task, self.attempt)


def box_of(task: str, attempt: int) -> str:
    """Return the name that every process, container and folder of an attempt carries."""
    return f"simyard-{task}-{attempt}"


@dataclass(frozen=True, kw_only=True)
class News:
    """Something about an attempt that moves nothing and that its user should know."""

    message: str
    made: Snapshot | None = None
    """The snapshot that is complete now."""
    resumed_from: Snapshot | None = None
    """The snapshot that the attempt goes on from."""


@dataclass(frozen=True)
class Stall:
    """The attempt gives no output, for the `number`-th time."""

    number: int


Fact = Status | Stall | News | Outcome
"""What can be said of an attempt: a move to `running` or `finalizing`, a stall, news, or its end."""


@dataclass(frozen=True)
class Report:
    """Something that an attempt says of itself."""

    what: Fact
    age: float = 0.0
    """How many seconds ago it happened, when it is sent."""


class Superseded(Conflict):
    """The attempt is not the task's current one any more: it must stop and clean up after itself."""

    kind = "superseded"


class NoSnapshot(Conflict):
    """No snapshot of the task's restart files could be taken; the task goes on."""

    kind = "no-snapshot"


class Reporter(Protocol):
    """Takes an attempt's reports to the durable store.

    Every call raises Superseded when the attempt is not the current one, and Unavailable when nobody answered in time;
    it is safe to call again.
    """

    def renew(self, work: Work) -> None:
        """Renew the attempt's lease."""
        ...

    def report(self, work: Work, reports: Sequence[Report]) -> None:
        """Take reports in their order, all or none; those that had arrived already are taken as a success."""
        ...
