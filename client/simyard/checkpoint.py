"""How a task goes on from where it stood when its machine was lost, and what was kept of it for that."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from simyard.files import check_relative
from simyard.resources import Duration
from simyard.simulator import Command
from simyard.words import Moment, Word

LEAST_EVERY = 10.0
"""Seconds that there are at least between two snapshots that nobody asked for."""


def check_glob(glob: str) -> str:
    """Return the glob of restart files when it can match a file of the task's folder.

    Raises:
        ValueError: it leaves the folder, or names what is Simyard's own.
    """
    check_relative(glob)
    if "\0" in glob:
        raise ValueError("a glob holds no NUL character; remove it")
    return glob


class Checkpoint(Word):
    """Which files let a task go on from where it stood, how often they are kept, and how it goes on."""

    files: tuple[Annotated[str, Field(max_length=1000), AfterValidator(check_glob)], ...] = Field(
        default=(), max_length=100
    )
    """Globs of the restart files, from the task's folder; none takes those that the simulator declares."""
    every: Annotated[Duration, Field(ge=LEAST_EVERY)] = 600.0
    """Seconds between two snapshots."""
    resume: tuple[Command, ...] = Field(default=(), max_length=100)
    """Commands that go on from the restart files; none runs the task's own ones again."""


class Snapshot(Word):
    """The restart files of an attempt as they were at a moment, in the storage."""

    attempt: int = Field(ge=1)
    number: int = Field(ge=1)
    """Counted from 1 in each attempt."""
    at: Moment
    files: int = Field(ge=1)
    size: int = Field(ge=0)
    """Bytes of the files together."""
