"""What a task waits for, and which outputs of other tasks it takes as inputs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import StringConstraints, model_validator

from simyard.files import RelativePath, matches
from simyard.words import TaskIdText, Word

MAX_DEPENDENCIES = 1000
"""The most tasks that one task may wait for."""

KEY = r"^[!-~]{1,200}$"
"""What an idempotency key looks like."""


class DependencyEnd(StrEnum):
    """Which end of another task is waited for."""

    SUCCESS = "success"
    """It has succeeded; any other end is a failure of the dependency."""
    ANY = "any"
    """It has ended, in whatever way."""


class IfDependencyFails(StrEnum):
    """What becomes of a task when one that had to succeed has not."""

    END = "end"
    """It ends as failed."""
    HOLD = "hold"
    """It goes on waiting until a user releases or cancels it."""


class _Reference(Word):
    """Names a task by its id or by the idempotency key with which the same user submits or has submitted it."""

    task: TaskIdText | None = None
    key: Annotated[str, StringConstraints(pattern=KEY)] | None = None

    @model_validator(mode="after")
    def _names_one(self) -> _Reference:
        if (self.task is None) == (self.key is None):
            raise ValueError("name one task by its `task` id, or by the `key` of its request; give one of the two")
        return self

    @property
    def named(self) -> tuple[str | None, str | None]:
        """Id and idempotency key, one of which is None."""
        return self.task, self.key

    def __str__(self) -> str:
        return self.task or f"key {self.key}"


class Dependency(_Reference):
    """One task that must have ended before another one may start; a text is the id of one that must succeed."""

    end: DependencyEnd = DependencyEnd.SUCCESS

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value


class InputFrom(_Reference):
    """Outputs of another task that are brought into the task's folder before it starts.

    It is a dependency as well: on the other task's success, unless `after` names it with another end.
    """

    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    """Which ones: a path or a glob, where `*` and `?` stay in one folder and `**` crosses them."""
    into: RelativePath | None = None
    """A folder that they are put into, with their paths below it; None leaves their paths as they are."""

    def gives(self, path: str) -> bool:
        """Say whether a file of that path in the task's folder may come from here."""
        if self.into is None:
            return matches(path, self.path)
        return path.startswith(f"{self.into}/") and matches(path.removeprefix(f"{self.into}/"), self.path)

    def place(self, path: str) -> str:
        """Return where an output of that path is put."""
        return path if self.into is None else f"{self.into}/{path}"
