"""Errors of the durable queue.

The tree::

    SimyardError
    ├── Conflict
    │   └── Refused               a report that is late, doubled or out of order
    └── Unavailable
        └── StoreUnavailable      the database cannot be read or written at present
            ├── StoreTooNew       a newer version of Simyard has written the database
            └── Deposed           another server's dispatcher leads now
"""

from __future__ import annotations

from simyard.errors import Conflict, Unavailable


class Refused(Conflict):
    """The report does not fit the task as it stands; nothing was changed."""

    kind = "refused"

    def __init__(self, reason: str | None = None, *, duplicate: bool = False) -> None:
        """Keep whether the same report had been accepted before, so that whoever sent it is done."""
        super().__init__(reason)
        self.duplicate = duplicate

    def __reduce__(self) -> tuple[object, ...]:
        """Keep `duplicate` when the error crosses to another process."""
        return (_refused, (self.reason, self.duplicate))


def _refused(reason: str, duplicate: bool) -> Refused:
    return Refused(reason, duplicate=duplicate)


class StoreUnavailable(Unavailable):
    """The database cannot be read or written at present; nothing of the request was kept."""

    kind = "store-unavailable"


class StoreTooNew(StoreUnavailable):
    """A newer version of Simyard has written the database; install that version or a later one."""

    kind = "store-too-new"


class Deposed(StoreUnavailable):
    """Another server's dispatcher leads now, and this one may not change tasks; nothing of the request was kept."""

    kind = "deposed"


def withdrawn(task: str) -> Refused:
    """Return the error for somebody who gives on a result that is not there any more."""
    return Refused(f"The result of task {task} has been withdrawn.")


def not_removable(task: str, *, ended: bool) -> Conflict:
    """Return the error for somebody who wants to forget a task that has not ended, or that another one needs."""
    if not ended:
        return still_going(task)
    reason = f"A later task has the result of task {task}, or one that has not ended needs it."
    return Conflict(reason, fix="Remove the later one first, or wait until the other one has ended.")


def still_going(task: str) -> Conflict:
    """Return the error for somebody who wants to forget a task that has not ended."""
    return Conflict(f"Task {task} has not ended.", fix="Cancel it first.")
