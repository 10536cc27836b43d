"""Where a task stands, and the one table of allowed moves."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The station of a task on its way from submission to exactly one end."""

    WAITING = "waiting"
    """It waits for its inputs or for other tasks."""
    QUEUED = "queued"
    """It is ready and waits for a place on a machine."""
    PREPARING = "preparing"
    """An attempt has a machine: its inputs and its image or environment are being brought there."""
    RUNNING = "running"
    """The simulator's commands run."""
    FINALIZING = "finalizing"
    """The commands have ended; outputs, tables and the manifest are being stored."""
    SUCCEEDED = "succeeded"
    """Every command ended with exit code 0 and the outputs are stored."""
    FAILED = "failed"
    """It ended for the reason that stands beside it."""
    CANCELLED = "cancelled"
    """A user ended it."""
    TIMED_OUT = "timed-out"
    """It ran into one of its time limits."""

    @property
    def is_end(self) -> bool:
        """Say whether a task never leaves this status."""
        return not MOVES[self]

    @property
    def is_active(self) -> bool:
        """Say whether an attempt holds a machine in this status."""
        return self in ACTIVE


ACTIVE = frozenset({Status.PREPARING, Status.RUNNING, Status.FINALIZING})
_ENDS = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT})

# From QUEUED to SUCCEEDED goes a task that takes an earlier one's result. A move back to QUEUED is the next attempt
# of a task that lost its machine or may retry.
MOVES: dict[Status, frozenset[Status]] = {
    Status.WAITING: frozenset({Status.QUEUED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT}),
    Status.QUEUED: frozenset({Status.PREPARING}) | _ENDS,
    Status.PREPARING: frozenset({Status.RUNNING, Status.FINALIZING, Status.QUEUED}) | _ENDS - {Status.SUCCEEDED},
    Status.RUNNING: frozenset({Status.FINALIZING, Status.QUEUED}) | _ENDS - {Status.SUCCEEDED},
    Status.FINALIZING: frozenset({Status.QUEUED}) | _ENDS,
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.TIMED_OUT: frozenset(),
}
"""From each status, the statuses that may follow."""
