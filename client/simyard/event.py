"""What happened to a task, and pieces of its live output."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from simyard.reason import Reason
from simyard.status import Status
from simyard.words import Moment, SweepIdText, TaskIdText, Word


class EventKind(StrEnum):
    """What an event tells."""

    SUBMITTED = "submitted"
    STATUS = "status"
    """The task moved to another status."""
    ATTEMPT_LOST = "attempt-lost"
    """An attempt lost its machine; the task is queued again where its budget allows."""
    CANCEL_REQUESTED = "cancel-requested"
    REPORT_REFUSED = "report-refused"
    """A late, doubled or reordered report was refused."""
    NOTE = "note"
    """Something worth knowing that moved nothing, such as a table that could not be read."""


class Event(Word):
    """Something that happened to a task."""

    seq: int
    """Grows over all tasks: the resume point of a stream."""
    task: TaskIdText
    at: Moment
    kind: EventKind
    status: Status
    """The task's status after the event."""
    attempt: int | None = None
    reason: Reason | None = None
    message: str | None = None
    sweep: SweepIdText | None = None
    """The sweep that the task belongs to."""


class LogStream(StrEnum):
    """Which output of the commands."""

    STDOUT = "stdout"
    STDERR = "stderr"


class Sample(Word):
    """Resources that the simulation used at a moment."""

    at: float
    """Seconds since 1970."""
    cpu_seconds: float
    """CPU time of the whole process tree so far."""
    memory: int = Field(ge=0)
    """Bytes in use by the whole process tree."""
    disk: int = Field(ge=0)
    """Bytes in the working folder."""
