"""Options that name other tasks, made into what a task waits for and takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.dependency import Dependency, InputFrom


def dependencies(after: Iterable[str], after_any: Iterable[str]) -> list[Dependency]:
    """Return what `--after` and `--after-any` say.

    Raises:
        InvalidInput: one is no task's id.
    """
    from pydantic import ValidationError

    from simyard.dependency import Dependency, DependencyEnd

    found = []
    ends = [("--after", DependencyEnd.SUCCESS, one) for one in after]
    for option, end, text in [*ends, *(("--after-any", DependencyEnd.ANY, one) for one in after_any)]:
        try:
            found.append(Dependency(task=text, end=end))
        except ValidationError:
            raise InvalidInput(f"{text!r} is no task's id.", field=option, fix=f"Write {option} t….") from None
    return found


def taken(texts: Iterable[str]) -> list[InputFrom]:
    """Return what `--input-from ID:GLOB` says; with `ID:GLOB:FOLDER` the outputs are put into that folder.

    Raises:
        InvalidInput: a text has another form.
    """
    from pydantic import ValidationError

    from simyard.dependency import InputFrom

    found = []
    for text in texts:
        task, _, rest = text.partition(":")
        path, _, into = rest.partition(":")
        try:
            found.append(InputFrom(task=task, path=path, into=into or None))
        except ValidationError:
            fix = "Write --input-from ID:GLOB, or ID:GLOB:FOLDER to put the files into a folder."
            raise InvalidInput(f"{text!r} names no task and path.", field="--input-from", fix=fix) from None
    return found
