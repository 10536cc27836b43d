"""What is kept of the things that happen to a task: events with numbers, within bounds."""

from __future__ import annotations

from datetime import datetime

from simyard.event import Event, EventKind
from tasks.errors import Refused
from tasks.lifecycle import Happened
from tasks.record import TaskRecord
from tasks.stimulus import Stimulus

MAX_EVENTS = 1000
"""A task keeps its newest events."""
MAX_REFUSALS = 100
"""A task keeps its first refused reports: a sender gone wild must not fill the disk."""


def event_of(seq: int, task: str, happened: Happened, now: datetime, sweep: str | None = None) -> Event:
    """Return what happened to a task as the event with that number."""
    return Event(
        seq=seq,
        task=task,
        at=now,
        kind=happened.kind,
        status=happened.status,
        attempt=happened.attempt,
        reason=happened.reason,
        message=happened.message,
        sweep=sweep,
    )


def refusal_of(record: TaskRecord, stimulus: Stimulus, refused: Refused) -> Happened:
    """Return the trace that a refused report leaves."""
    return Happened(
        kind=EventKind.REPORT_REFUSED,
        status=record.status,
        attempt=getattr(stimulus, "attempt", None),
        message=f"{type(stimulus).__name__}: {refused.reason}",
    )
