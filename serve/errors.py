"""Errors of the HTTP face.

The tree::

    SimyardError
    ├── Forbidden             a signed URL was changed, or its time is over
    ├── MethodNotAllowed      the address exists, but not for this method
    ├── RangeNotSatisfiable   the object ends before the range that was asked for
    ├── ServerFailed          the server on this machine did not start
    └── Defect                something of ours went wrong; the log has the rest
"""

from __future__ import annotations

from simyard.errors import SimyardError


class Forbidden(SimyardError):  # noqa: N818 - errors are named after what happened
    """The signed URL is not valid."""

    status = 403
    kind = "forbidden"


class MethodNotAllowed(SimyardError):  # noqa: N818
    """This address does not take this method."""

    status = 405
    kind = "method-not-allowed"


class RangeNotSatisfiable(SimyardError):  # noqa: N818
    """The range lies outside of the file."""

    status = 416
    kind = "range-not-satisfiable"

    def __init__(self, size: int) -> None:
        """Keep the size, which the answer names."""
        super().__init__(f"The file has {size} bytes.", field="Range", fix="Ask for bytes before its end.")
        self.size = size


class Defect(SimyardError):  # noqa: N818
    """Something went wrong inside the server."""

    status = 500
    kind = "internal"


class ServerFailed(SimyardError):  # noqa: N818
    """The server on this machine did not start."""

    status = 503
    kind = "server-failed"
