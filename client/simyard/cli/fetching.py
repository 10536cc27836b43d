"""Outputs that a command brings into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simyard.cli.bars import bars
from simyard.cli.failures import say
from simyard.cli.text import size
from simyard.errors import NotFound

if TYPE_CHECKING:
    from simyard.download import Downloaded
    from simyard.handle import Task


def fetch(task: Task, folder: Path, *, glob: str | None = None, quiet: bool) -> Downloaded:
    """Bring a task's outputs into a folder and say so."""
    with bars(quiet=quiet) as progress:
        found = task.download(folder, glob, progress)
    for path in found.left_out:
        say(f"warning: the symbolic link {path!r} was left out: it leads out of the folder.")
    if not quiet:
        there = f", {found.already_there} of them were there already" if found.already_there else ""
        say(f"{len(found.files)} files ({size(found.bytes)}) are in {found.folder}{there}")
    return found


def fetch_if_any(task: Task, folder: Path, *, quiet: bool) -> Downloaded | None:
    """Bring a task's outputs into a folder; one that did not succeed may have stored none."""
    try:
        return fetch(task, folder, quiet=quiet)
    except NotFound as error:
        if task.status.value == "succeeded":
            raise
        say(f"There are no outputs to fetch: {error.reason}")
        return None
