"""What tasks say while they go on: their events and their logs, followed through network failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from simyard import errors
from simyard.connection import Connection
from simyard.event import Event, LogStream
from simyard.sweep import Sweep
from simyard.task import Task

M = TypeVar("M", bound=BaseModel)

QUIET = 40.0
"""Seconds after which a silent event stream counts as broken: the server says something every fifteen."""
_QUIET_LOG = 60.0


def follow_events(
    connection: Connection, task: str, after: int = 0, left: Callable[[], float] = lambda: float("inf")
) -> Iterator[Event]:
    """Give a task's events as they happen, until it has ended or `left` says that no seconds are left.

    Raises:
        Unavailable: the server is away for longer than the connection's patience.
    """
    place = f"/v1/tasks/{task}/events"
    for message in _follow(connection, place, after, left, lambda: _info(connection, task).status.is_end):
        event = _read(Event, message.data)
        if event is not None and event.seq > message.before:
            yield event


def follow_sweep(
    connection: Connection, sweep: str, after: int, left: Callable[[], float] = lambda: float("inf")
) -> Iterator[Event | Sweep]:
    """Give the events of a sweep's tasks after one, and now and then the sweep, until all its tasks have ended.

    Raises:
        Unavailable: the server is away for longer than the connection's patience.
    """
    over: list[bool] = []
    for message in _follow(connection, f"/v1/sweeps/{sweep}/events", after, left, lambda: bool(over)):
        if message.kind == "progress":
            told = _read(Sweep, message.data)
            if told is not None:
                if told.is_over:
                    over.append(True)
                yield told
        else:
            event = _read(Event, message.data)
            if event is not None and event.seq > message.before:
                yield event


class _Message(NamedTuple):
    """One server-sent event."""

    kind: str
    data: str
    before: int
    """The largest number of those before it."""


def _follow(
    connection: Connection, place: str, after: int, left: Callable[[], float], is_over: Callable[[], bool]
) -> Iterator[_Message]:
    """Give the messages of a stream, resumed where it breaks off, until it has ended and `is_over` agrees."""
    backoff = connection.backoff()
    while True:
        quiet = min(QUIET, left())
        if quiet <= 0:
            return
        seen = after
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            with connection.stream("GET", place, headers=headers, timeout=quiet) as answer:
                backoff.keep()
                fields: dict[str, list[str]] = {}
                for line in answer.iter_lines():
                    backoff.reset()
                    name, _, value = line.partition(":")
                    if name:
                        fields.setdefault(name, []).append(value.removeprefix(" "))
                    elif not line and fields:
                        message = _message(fields, after)
                        fields = {}
                        if message is not None:
                            after = max(after, message[0])
                            yield message[1]
                    if not line and left() < quiet - 1:
                        # The next silence may be longer than what is left.
                        break
                else:
                    if is_over():
                        return
        except errors.Unavailable:
            if left() <= 0:
                return
            if after == seen and not backoff.pause():
                raise
        else:
            if after == seen and left() >= quiet:
                backoff.pause()


def _message(fields: dict[str, list[str]], before: int) -> tuple[int, _Message] | None:
    if "data" not in fields:
        return None
    number = fields.get("id", ["0"])[-1]
    kind = fields.get("event", ["message"])[-1]
    return int(number) if number.isdecimal() else 0, _Message(kind, "\n".join(fields["data"]), before)


def _read(model: type[M], text: str) -> M | None:
    try:
        return model.model_validate_json(text, extra="ignore")
    except ValidationError:  # a kind that this client does not know yet
        return None


def _info(connection: Connection, task: str) -> Task:
    return connection.ask(Task, "GET", f"/v1/tasks/{task}")


def follow_log(
    connection: Connection,
    task: str,
    stream: LogStream,
    *,
    follow: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[bytes]:
    """Give what the commands printed, from the start; with `follow` until the task has ended.

    A break is resumed at the byte where it happened. After a lost attempt the log of the next one follows.

    Raises:
        Unavailable: the server is away for longer than the connection's patience.
    """
    backoff = connection.backoff()
    place = f"/v1/tasks/{task}/logs"
    attempt: int | None = None
    offset, ended = 0, False
    while not stopped():
        # The record first: when it says that the task has ended, all of the log is there to be read.
        asked = {"stream": stream.value, "offset": str(offset), "follow": str(follow and not ended).lower()}
        params = asked | ({} if attempt is None else {"attempt": str(attempt)})
        before = offset
        broken = False
        try:
            with connection.stream("GET", place, params=params, timeout=_QUIET_LOG) as answer:
                # A simulation may be silent for hours.
                backoff.keep()
                number = answer.headers.get("Simyard-Attempt", "")
                attempt = int(number) if number.isdecimal() else attempt
                for chunk in answer.iter_raw():
                    offset += len(chunk)
                    backoff.reset()
                    yield chunk
                    if stopped():
                        return
        except errors.Unavailable:
            broken = True
            if offset == before and not backoff.pause():
                raise
        if broken:
            continue
        if ended or not follow:
            return
        info = _info(connection, task)
        newest = len(info.attempts) and info.attempts[-1].number
        if attempt is not None and newest > attempt:
            attempt, offset = attempt + 1, 0
        elif info.status.is_end:
            ended = True
        elif offset == before:
            backoff.pause()
