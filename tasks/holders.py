"""What the dispatcher needs of machines and of the Simulator actors on them, in its own words and without Ray."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from simulators.work import Work
from tasks.placement import Host, Kind


class Verdict(StrEnum):
    """What the dispatcher says to a report."""

    TAKEN = "taken"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Gone:
    """The actor has ended before what it was asked for had."""


@dataclass(frozen=True)
class Unreachable:
    """Nothing more will be heard of the attempt by this way, and the actor may well go on with it."""


@dataclass(frozen=True)
class Broken:
    """The actor lives, and could not carry the attempt."""

    why: str
    machine: str = ""
    """The other machine of the attempt that is at fault, where one is."""


Left = Gone | Unreachable | Broken | None
"""Why an attempt is not carried any more; None where its end was reported, or another attempt has taken over."""
OnLeft = Callable[[Left], bool]
"""Takes why an attempt is not carried any more, and says whether that is news: mostly its end was reported before."""


@dataclass(frozen=True, kw_only=True)
class HolderState:
    """What an actor says of itself."""

    host: str
    kind: Kind
    carries: tuple[str, int] | None
    """Task and attempt."""
    others: tuple[str, ...] = ()
    """The other machines whose resources that holds, by id."""


class Holders(Protocol):
    """The Simulator actors of a cluster, by their names, and the machines that they stand on.

    Only `ask` waits for an actor. Any other call may be lost with its actor, and then nothing else is heard of it but
    what `left` tells; a name that nobody has is as good as an actor that has gone. `left` is called once for each
    attempt, from any thread, and not at all when the process that asked for it has ended meanwhile.
    """

    def machines(self) -> tuple[Host, ...]:
        """Return the machines that are alive and belong to a group, by id."""
        ...

    def departed(self) -> Container[str]:
        """Return the names of the machines that are known to have died; one that is merely unknown may come back."""
        ...

    def start(self, kind: Kind, host: str) -> str:
        """Start an actor on the machine and return its name."""
        ...

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        """Give the actor an attempt to carry."""
        ...

    def adopt(self, name: str, work: Work, left: OnLeft) -> None:
        """Let the actor carry an attempt on that another one on its machine carried, which has gone or is about to.

        What cannot be carried on is Broken.
        """
        ...

    def watch(self, name: str, task: str, attempt: int, left: OnLeft) -> None:
        """Ask to be told when the actor does not carry the attempt any more, which it was given by another process."""
        ...

    def cancel(self, name: str, task: str, attempt: int) -> None:
        """Tell the actor to end the attempt."""
        ...

    def end(self, name: str) -> None:
        """End the actor at once, whatever it does."""
        ...

    def ask(self) -> Mapping[str, HolderState | None]:
        """Return all actors that live, those of earlier dispatchers too; None for one that does not answer in time."""
        ...
