"""What can come to a task from outside: requests of users, decisions of the dispatcher, reports of attempts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from simulators.outcome import Outcome
from simulators.work import News
from simyard.reason import Reason
from simyard.resources import Resources
from simyard.simulator import RuntimeName
from simyard.status import Status


@dataclass(frozen=True)
class Dispatch:
    """The dispatcher gives the task a place: the next attempt begins."""

    machine: str
    holder: str
    """Name of the Ray actor that carries the attempt."""
    runtime: RuntimeName
    lease_until: datetime
    resources: Resources | None = None
    """What it takes of the machine; only a task that has the machine for itself did not say that."""
    others: tuple[str, ...] = ()
    """The other machines, where the task runs on several."""
    usd_per_hour: float | None = None
    """What the attempt costs there; None where nobody knows a price."""


@dataclass(frozen=True)
class Progress:
    """The attempt says that it is `running` or `finalizing`."""

    attempt: int
    status: Status


@dataclass(frozen=True)
class Renew:
    """The attempt says that it is alive; a lease never becomes shorter by it."""

    attempt: int
    lease_until: datetime


@dataclass(frozen=True)
class Adopt:
    """The dispatcher lets another actor carry the attempt on, since the one that carried it has gone."""

    attempt: int
    holder: str
    instead_of: str
    """The actor that has gone: where another one carries the attempt meanwhile, this comes too late."""
    lease_until: datetime


@dataclass(frozen=True)
class OutputsRemoved:
    """The outputs of an ended task have been removed from the storage."""


@dataclass(frozen=True)
class End:
    """The attempt says how it ended."""

    attempt: int
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """The attempt's machine or process has gone, or its lease has run out."""

    attempt: int
    reason: Reason
    holder: str | None = None
    """The actor that is known to have gone: where another one carries the attempt, it is not lost; None says any."""


@dataclass(frozen=True)
class Undelivered:
    """The attempt could not be handed to its actor: it never began and costs the task nothing."""

    attempt: int


@dataclass(frozen=True)
class Stalled:
    """The attempt says that it has given no output for as long as its stall limit says, for the `number`-th time."""

    attempt: int
    number: int


@dataclass(frozen=True)
class Tell:
    """The attempt says what it has kept for a next one, or that it goes on from what an earlier one had kept."""

    attempt: int
    news: News


@dataclass(frozen=True)
class Reused:
    """The dispatcher gives a queued task the result of an earlier one, which must be there."""

    source: str
    """The earlier task."""
    result: int
    """Its attempt that has the result."""


@dataclass(frozen=True)
class Expire:
    """The dispatcher says that a queued task has waited too long; one that has not, or waits no more, stays."""


@dataclass(frozen=True)
class Forgive:
    """The machine was at fault: what the attempt cost is given back, once, to a task that has not ended."""

    attempt: int


@dataclass(frozen=True)
class Cancel:
    """A user wants the task to end; asking twice, or after the end, changes nothing."""


@dataclass(frozen=True)
class Hold:
    """A user wants that the task does not start for now; one that runs goes on, one that has ended stays."""


@dataclass(frozen=True)
class Settled:
    """A task that this one waits for has ended; for a task that does not wait any more it changes nothing."""

    task: str
    status: Status
    is_met: bool
    """It has ended as it had to."""
    is_last: bool = False
    """Every other one has ended as it had to as well."""


@dataclass(frozen=True)
class Release:
    """A user lets a held task start, or wait no more for those that have failed; for any other it changes nothing."""

    is_last: bool = False
    """A task that waits then waits for no other one; the store finds it out."""


@dataclass(frozen=True)
class Wait:
    """The dispatcher says why a queued task has no place yet; for any other task it changes nothing."""

    reason: Reason


Stimulus = (
    Dispatch
    | Progress
    | Renew
    | Adopt
    | End
    | Lost
    | OutputsRemoved
    | Undelivered
    | Reused
    | Stalled
    | Tell
    | Expire
    | Forgive
    | Cancel
    | Hold
    | Settled
    | Release
    | Wait
)
