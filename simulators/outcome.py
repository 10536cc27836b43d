"""How an attempt at a task ended."""

from __future__ import annotations

from pydantic import Field

from simyard.files import Staged
from simyard.reason import Reason
from simyard.status import Status
from simyard.words import Word


class Outcome(Word):
    """How an attempt ended; `stored` says that its manifest is committed and its outputs can be read."""

    status: Status
    reason: Reason | None = None
    exit_code: int | None = None
    peak_memory: int | None = None
    """Bytes."""
    cpu_seconds: float | None = None
    staged: Staged | None = None
    """Where the input files came from."""
    stdout_tail: str = Field(default="", max_length=1000)
    """The last that the commands of an attempt that failed printed."""
    stderr_tail: str = Field(default="", max_length=1000)
    stored: bool = False
    output_bytes: int | None = None
    """Bytes that the stored outputs take."""
    notes: tuple[str, ...] = ()
    """What is worth knowing and changed nothing, such as a table that could not be read."""
