"""Waiting for a task: its status, how long it takes and the last line that it printed, and how to come back."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from simyard.cli.failures import INTERRUPTED, say
from simyard.cli.lastline import LastLine
from simyard.cli.show import console, is_terminal
from simyard.cli.text import duration, plain
from simyard.errors import SimyardError, Unavailable

_MOST = 256 * 1024 * 1024
"""Bytes of a log that are read at most just to show its last line."""

if TYPE_CHECKING:
    from simyard.event import Event
    from simyard.handle import Task


def watch(task: Task, *, quiet: bool, timeout: float | None = None) -> bool:
    """Return whether the task succeeded, once it has ended; Ctrl-C leaves it running and says how to come back.

    Raises:
        StillGoing: it has not ended within `timeout` seconds.
        Unavailable: the server is away for long.
    """
    try:
        if quiet:
            task.wait(timeout)
        elif is_terminal():
            _watch_live(task, timeout)
        else:
            task.wait(timeout, on_event=_Lines().tell)
    except KeyboardInterrupt:
        say(f"\n{task.id} goes on without you.".strip())
        say_how_back(task.id)
        raise typer.Exit(INTERRUPTED) from None
    except Unavailable:
        say(f"{task.id} goes on, but the server cannot be asked.")
        say_how_back(task.id)
        raise
    if not quiet:
        say_end(task)
    return task.status.value == "succeeded"


def say_how_back(task: str) -> None:
    """Print how to wait for a task again, and how to end it."""
    say(f"  wait for it again:  simyard tasks wait {task}")
    say(f"  end it:             simyard tasks cancel {task}")


def say_end(task: Task) -> None:
    """Print how a task ended."""
    info = task.info
    took = ""
    if info.started_at and info.ended_at:
        took = f" after {duration((info.ended_at - info.started_at).total_seconds())}"
    say(f"{task.id} {info.status.value}{took}" + (f": {info.reason.message}" if info.reason else ""))
    if info.status.value != "succeeded":
        say(f"  what it printed:  simyard tasks logs {task.id} --stderr")
        say(f"  why:              simyard tasks explain {task.id}")


class _Lines:
    """Status changes as lines, for a log file."""

    def __init__(self) -> None:
        self._status: object = None

    def tell(self, event: Event) -> None:
        """Print the status where it is another one."""
        if event.status is not self._status and not event.status.is_end:
            self._status = event.status
            say(f"{event.task} {event.status.value}" + (f": {event.reason.message}" if event.reason else ""))


def _watch_live(task: Task, timeout: float | None) -> None:
    from rich.live import Live
    from rich.text import Text

    line, state, over = LastLine(), _State(task), threading.Event()

    def follow() -> None:
        with suppress(SimyardError, RuntimeError):  # only a convenience; RuntimeError: the client was closed
            read = 0
            for chunk in task.tail(over.is_set):
                line.feed(chunk)
                read += len(chunk)
                if read > _MOST:
                    break

    def picture() -> Text:
        return Text.assemble(
            ("/-\\|"[int(time.monotonic() * 4) % 4] + " ", "cyan"),
            (f"{state.status:<10}", "bold"),
            f" {state.elapsed:>10}  ",
            (plain(line.text), "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )

    threading.Thread(target=follow, name="simyard-tail", daemon=True).start()
    try:
        with Live(console=console(stderr=True), get_renderable=picture, refresh_per_second=8, transient=True):
            task.wait(timeout, on_event=state.tell)
    finally:
        over.set()


class _State:
    """The status that the live line shows, and since when."""

    def __init__(self, task: Task) -> None:
        self.status = task.status.value
        self._since = task.info.created_at

    def tell(self, event: Event) -> None:
        """Take in a change of status."""
        if event.status.value != self.status:
            self.status, self._since = event.status.value, event.at

    @property
    def elapsed(self) -> str:
        """How long the status has lasted."""
        return duration((datetime.now(UTC) - self._since).total_seconds())
