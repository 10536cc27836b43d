"""The rows of the new tasks of one submission: of those that are alike, the first is the pattern of the others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from operator import is_, itemgetter
from typing import Any

from pydantic_core import to_json

from simyard.task import Task, TaskSpec
from tasks import rows
from tasks.lifecycle import new_record
from tasks.record import Draft

_MOST = 256
"""How many patterns are kept: where each task is of a kind of its own, more would gain nothing."""
_OWN = ("id", "name", "metadata", "case")
"""The fields that tasks which are alike have of their own, in their order."""
_shared = itemgetter(*[name for name in TaskSpec.model_fields if name not in {"name", "metadata", "inputs"}])


class Newcomers:
    """Makes the rows of tasks that wait for no other one.

    Tasks are alike where their specs have the same objects in all fields but the name, the metadata and the inputs: so
    they are after a batch was admitted. What is made of a pattern is what `new_record` and `rows` make, in a small
    part of the time.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._patterns: dict[int, _Pattern] = {}

    def make(self, draft: Draft, seq: int, inputs: bytes) -> dict[str, Any]:
        """Return a task's columns; `inputs` is the hash of its list of input files."""
        shared = _shared(draft.spec.__dict__)
        # No two kinds have one object of parameters, and those of a kind do.
        pattern = self._patterns.get(id(draft.spec.parameters))
        if pattern is not None and pattern.fits(draft, shared):
            return pattern.cast(draft, seq, inputs)
        record = new_record(draft, seq, self._now).record
        columns = rows.task_columns(record, draft, inputs)
        if len(self._patterns) < _MOST:
            self._patterns[id(draft.spec.parameters)] = _Pattern(draft.user, shared, record.task, columns)
        return columns


class _Pattern:
    """A new task that others are like."""

    def __init__(self, user: str, shared: tuple[Any, ...], task: Task, columns: Mapping[str, Any]) -> None:
        self._user = user
        self._shared = shared
        self._task = task
        self._columns = columns
        self._form = ""

    def fits(self, draft: Draft, shared: tuple[Any, ...]) -> bool:
        """Say whether a draft is like this one; it is by identity, since 1 equals True and is another value."""
        return draft.user == self._user and all(map(is_, shared, self._shared))

    def cast(self, draft: Draft, seq: int, inputs: bytes) -> dict[str, Any]:
        """Return the columns of a draft that fits."""
        return {
            **self._columns,
            "seq": seq,
            "id": draft.id,
            "name": draft.spec.name,
            "sweep": None if draft.case is None else draft.case.sweep,
            "key": draft.key,
            "digest": draft.digest,
            "inputs": inputs,
            "fingerprint": draft.fingerprint,
            "body": self._body(draft),
        }

    def _body(self, draft: Draft) -> str:
        self._form = self._form or _form_of(self._task)
        name, case = draft.spec.name, draft.case
        return self._form % (
            f'"{draft.id}"',
            "null" if name is None else to_json(name).decode(),
            to_json(draft.spec.metadata).decode(),
            "null" if case is None else to_json(case).decode(),
        )


def _form_of(task: Task) -> str:
    """Return a task in JSON with a place for each of the fields that are its own."""
    pieces: list[str] = []
    shared: set[str] = set()

    def end_piece() -> None:
        if shared:
            pieces.append(task.model_dump_json(include=shared)[1:-1].replace("%", "%%"))
            shared.clear()

    for name in Task.model_fields:
        if name in _OWN:
            end_piece()
            pieces.append(f'"{name}":%s')
        else:
            shared.add(name)
    end_piece()
    return "{" + ",".join(pieces) + "}"
