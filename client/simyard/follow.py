"""What a task says while it goes on: its events and its logs, followed through network failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import ValidationError

from simyard import errors
from simyard.connection import Connection
from simyard.event import Event, LogStream
from simyard.task import Task

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
    backoff = connection.backoff()
    place = f"/v1/tasks/{task}/events"
    while True:
        quiet = min(QUIET, left())
        if quiet <= 0:
            return
        seen = after
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            with connection.stream("GET", place, headers=headers, timeout=quiet) as answer:
                backoff.keep()
                data: list[str] = []
                for line in answer.iter_lines():
                    backoff.reset()
                    if line.startswith("data:"):
                        data.append(line[5:].removeprefix(" "))
                    elif not line and data:
                        event, data = _event("\n".join(data)), []
                        if event is not None and event.seq > after:
                            after = event.seq
                            yield event
                    if not line and left() < quiet - 1:
                        # The next silence may be longer than what is left.
                        break
                else:
                    if _info(connection, task).status.is_end:
                        return
        except errors.Unavailable:
            if left() <= 0:
                return
            if after == seen and not backoff.pause():
                raise
        else:
            if after == seen and left() >= quiet:
                backoff.pause()


def _event(text: str) -> Event | None:
    try:
        return Event.model_validate_json(text, extra="ignore")
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
