"""The rows of the new tasks of one submission: of those that are alike, the first is the pattern of the others."""

from __future__ import annotations

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
OWN_COLUMNS = ("seq", "id", "name", "sweep", "key", "digest", "inputs", "fingerprint", "body")
"""The columns that tasks which are alike have of their own, in the order of a row."""
_OWN = ("id", "name", "metadata", "case")
"""The fields that tasks which are alike have of their own, in their order."""
_shared = itemgetter(*[name for name in TaskSpec.model_fields if name not in {"name", "metadata", "inputs"}])


class Newcomers:
    """Finds the patterns of the rows of tasks that wait for no other one.

    Tasks are alike where their specs have the same objects in all fields but the name, the metadata and the inputs: so
    they are after a batch was admitted. What is made of a pattern is what `new_record` and `rows` make, in a small
    part of the time.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._patterns: dict[int, Pattern] = {}

    def pattern(self, draft: Draft) -> Pattern:
        """Return the pattern by which a task's row is made."""
        shared = _shared(draft.spec.__dict__)
        # No two kinds have one object of parameters, and those of a kind do.
        kind = id(draft.spec.parameters)
        pattern = self._patterns.get(kind)
        if pattern is None or not pattern.fits(draft, shared):
            pattern = Pattern(draft, shared, self._now)
            if len(self._patterns) < _MOST:
                self._patterns[kind] = pattern
        return pattern


class Pattern:
    """A new task that others are like."""

    def __init__(self, draft: Draft, shared: tuple[Any, ...], now: datetime) -> None:
        record = new_record(draft, 0, now).record
        columns = rows.task_columns(record, draft, b"")
        self._first = draft
        self._body = columns["body"]
        self._shared = shared
        self._task = record.task
        self._form = ""
        self.columns = {name: value for name, value in columns.items() if name not in OWN_COLUMNS}
        """The columns that all have alike, with their values."""

    def fits(self, draft: Draft, shared: tuple[Any, ...]) -> bool:
        """Say whether a draft is like this one; it is by identity, since 1 equals True and is another value."""
        return draft.user == self._first.user and all(map(is_, shared, self._shared))

    def own(self, draft: Draft, seq: int, inputs: bytes) -> tuple[Any, ...]:
        """Return the own columns of a draft that fits; `inputs` is the hash of its list of input files."""
        sweep = None if draft.case is None else draft.case.sweep
        body = self._body if draft is self._first else self._body_of(draft)
        return (seq, draft.id, draft.spec.name, sweep, draft.key, draft.digest, inputs, draft.fingerprint, body)

    def _body_of(self, draft: Draft) -> str:
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
