"""One machine as several: raylets that share its cores and its memory, each a machine of the group `local`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.member import Member, MemberPlan
from simyard.errors import InvalidInput

_PAUSES = (0.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds between two starts of a worker that does not live, the last one again and again."""
_LIVED = 120.0
"""How long one must have lived for its end to be an accident, and not the next failure of the same kind."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker of a machine has of it."""

    name: str
    """It is the same at every start, since tasks keep it."""
    cpus: int
    memory: int
    """Bytes that tasks may take together."""
    disk: int
    """Bytes that tasks may reserve together."""


def divide(host: str, cpus: int, memory: int, disk: int, workers: int) -> tuple[Share, ...]:
    """Return even shares of a machine; the first is the head's and has the host's name.

    Cores that are left over go one each to the first ones, so that no worker is larger than the head.

    Raises:
        InvalidInput: there are fewer cores than workers, or no worker.
    """
    if not 1 <= workers <= cpus:
        reason = f"{workers} workers cannot share the {cpus} cores of this machine."
        raise InvalidInput(reason, field="--workers", fix=f"Give a number from 1 to {cpus}.")
    each, left = divmod(cpus, workers)
    return tuple(
        Share(
            name=host if number == 0 else f"{host}-{number + 1}",
            cpus=each + (number < left),
            memory=memory // workers,
            disk=disk // workers,
        )
        for number in range(workers)
    )


class Workers:
    """The workers of this machine beside the head's: started, and started again when they have died."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def begin(self, head: str, group: str, shares: Sequence[Share], environment: Mapping[str, str]) -> None:
        """Start a worker for each share but the first; those of before have ended with their head."""
        self._kept = [
            _Kept(
                Member(
                    # The machine's GPUs are the head's.
                    MemberPlan(head=head, group=group, cpus=s.cpus, memory=s.memory, gpus=0, name=s.name, disk=s.disk),
                    environment,
                )
            )
            for s in shares[1:]
        ]
        self.look()

    def look(self) -> tuple[str, ...]:
        """Start those that do not live, and return the names of the ones that had died; returns at once."""
        now = time.monotonic()
        return tuple(kept.member.plan.name or "" for kept in self._kept if kept.revive(now))


class _Kept:
    """One worker, and when it was started."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._tries = 0
        self._began = 0.0

    def revive(self, now: float) -> bool:
        """Start the worker where it does not live and may be tried again; says whether it had died."""
        if self.member.is_alive():
            return False
        if self._tries and now - self._began >= _LIVED:
            self._tries = 1
        if now - self._began < _PAUSES[min(self._tries, len(_PAUSES)) - 1] and self._tries:
            return False
        was_there = self._tries > 0
        self._tries, self._began = self._tries + 1, now
        self.member.start()
        return was_there
