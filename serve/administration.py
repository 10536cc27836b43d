"""What the commands of administration have in common: the store, the progress bar, and how an answer is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from simyard.cli.show import console, is_terminal
from storage.settings import load_settings
from tasks.store import Store, open_store


@contextmanager
def task_store() -> Iterator[Store]:
    """Give the durable store of this machine's server."""
    store = open_store(load_settings().task_store)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def bar(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is told how much is done, of how much; a person sees a bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    hidden = not (shown and is_terminal())
    with Progress(*columns, console=console(stderr=True), transient=True, disable=hidden) as progress:
        row = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(row, completed=done, total=total)


def answer(json_: bool, document: Mapping[str, object], text: str) -> None:
    """Print the document as JSON, or the text where there is one."""
    if json_:
        typer.echo(json.dumps(document))
    elif text:
        typer.echo(text)
