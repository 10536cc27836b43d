"""Every error that Simyard raises.

The tree::

    SimyardError                      something a user may be told, with what to do next
    ├── InvalidInput                  a field has a bad value: field, reason and fix
    │   ├── UnreadableInput           an input file cannot be read, or changes while it is
    │   └── InputsMissing             a task is right but for input files that are not in the storage yet
    ├── NotFound                      no such task, simulator, file or table
    ├── Conflict                      the request contradicts what is already stored
    ├── Unauthorized                  the API key is missing, wrong or expired
    ├── NotYours                      it is another user's
    ├── TooLarge                      a body or a file is over its limit
    ├── Unavailable                   the server, the store or the storage cannot be reached at present
    ├── Damaged                       bytes that arrived are not those that were sent
    ├── StillGoing                    a task did not end within the time that a caller gave it
    ├── NotInstalled                  an optional package is needed
    └── (each folder adds its own in its errors.py)
"""

from __future__ import annotations


class SimyardError(Exception):
    """Something went wrong in Simyard."""

    status = 500
    """The HTTP status that carries this error."""

    kind = "internal"
    """The last part of the problem's type: the name that a program branches on."""

    def __init__(self, reason: str | None = None, *, field: str | None = None, fix: str | None = None) -> None:
        """Keep what happened, where (a dotted field of the request) and what to do about it."""
        self.reason = reason or (type(self).__doc__ or "").splitlines()[0]
        self.field = field
        self.fix = fix
        super().__init__(self.reason)

    def __str__(self) -> str:
        """Return field, reason and fix as one readable text."""
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.reason}" + (f" {self.fix}" if self.fix else "")


class InvalidInput(SimyardError):  # noqa: N818 - errors are named after what happened
    """A value in the request is not valid."""

    status = 422
    kind = "invalid-input"


class UnreadableInput(InvalidInput):
    """An input file cannot be read, or changed while it was."""


class InputsMissing(InvalidInput):
    """Input files of the task are not in the storage yet."""

    kind = "inputs-missing"


class NotFound(SimyardError):  # noqa: N818
    """There is no such thing."""

    status = 404
    kind = "not-found"


class Conflict(SimyardError):  # noqa: N818
    """The request contradicts what is already stored."""

    status = 409
    kind = "conflict"


class Unauthorized(SimyardError):  # noqa: N818
    """The API key is missing, wrong or expired."""

    status = 401
    kind = "unauthorized"


class NotYours(SimyardError):  # noqa: N818
    """It belongs to another user."""

    status = 403
    kind = "not-yours"


class TooLarge(SimyardError):  # noqa: N818
    """The body is larger than this endpoint takes."""

    status = 413
    kind = "too-large"


class Unavailable(SimyardError):  # noqa: N818
    """A part that is needed cannot be reached at present."""

    status = 503
    kind = "unavailable"


class Damaged(SimyardError):  # noqa: N818
    """The bytes that arrived are not those that were sent."""

    status = 502
    kind = "damaged"


class StillGoing(SimyardError, TimeoutError):  # noqa: N818
    """The task did not end within the time given."""

    status = 504
    kind = "still-going"


class NotInstalled(SimyardError, ImportError):  # noqa: N818
    """An optional package is needed for this."""

    status = 501
    kind = "not-installed"
