"""How drafts become rows: what is known already is looked up at once, and what is new goes in together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

from simyard.dependency import Dependency
from simyard.errors import InvalidInput
from tasks import rows
from tasks.admission import Origin, conflict_of
from tasks.dependencies import begun, edges_of, in_order, resolved
from tasks.lifecycle import Step, new_record
from tasks.newcomers import Newcomers
from tasks.record import Draft, Submission, TaskRecord
from tasks.sqlite.statements import of_many

_Known = tuple[Submission, str | None, str]
"""The answer with a task that is there, and the idempotency key and the digest of its request."""

_CHUNK = 1024
"""Tasks whose rows are held at a time; a statement takes 32,766 values, and a task has 24."""


def take_in(
    connection: sqlite3.Connection,
    sql: Mapping[str, str],
    drafts: Sequence[Draft],
    digests: Sequence[bytes],
    lists: Mapping[bytes, bytes],
    now: datetime,
) -> list[Submission]:
    """Return the answers to drafts after writing those that are new; it belongs into one transaction.

    `digests` has the hash of each draft's list of input files, `lists` the compressed lists that are to be kept.
    """
    waits = [draft.spec.dependencies for draft in drafts]
    by_key, by_id = _known(connection, sql, drafts, waits)

    def named(user: str, one: Dependency) -> tuple[str, str] | None:
        found = by_id.get(one.task or "") if one.key is None else by_key.get((user, one.key))
        return None if found is None else (_record(found).id, _record(found).user)

    order, circles = in_order(drafts)
    seq = connection.execute(sql["next_seq"]).fetchone()[0]
    answers = {place: Submission(error=error) for place, error in circles.items()}
    connection.executemany(sql["add_inputs"], ({"sha256": sha256, "files": files} for sha256, files in lists.items()))
    newcomers, written = Newcomers(now), _Rows(connection, sql, now)
    for place in order:
        draft, digest = drafts[place], digests[place]
        known = by_key.get((draft.user, draft.key)) if draft.key is not None else None
        known = known or by_id.get(draft.id)
        if known is not None:
            record, key, request = _record(known), *known[1:]
            error = conflict_of(draft, Origin(task=record.id, user=record.user, key=key, digest=request))
            answers[place] = Submission(error=error) if error else Submission.of(record)
            continue
        if not waits[place]:
            columns = newcomers.make(draft, seq, digest)
            make = partial(_made, draft, seq, now)
            answer = Submission(id=draft.id, make=make, created=True, body=columns["body"])
            written.add(columns)
        else:
            try:
                draft = resolved(draft, partial(named, draft.user))
            except InvalidInput as refusal:
                answers[place] = Submission(error=refusal)
                continue
            edges = edges_of(draft, lambda task: _record(by_id[task]).status)
            first = begun(new_record(draft, seq, now), edges, lambda task: _record(by_id[task]).status, now)
            columns = rows.task_columns(first.record, draft, digest)
            answer = Submission.of(first.record, created=True, body=columns["body"])
            ties = [rows.edge_columns(edge, child=seq, parent=_record(by_id[edge.parent]).seq) for edge in edges]
            written.add(columns, first, ties)
        by_id[draft.id] = answer, draft.key, draft.digest
        if draft.key is not None:
            by_key[draft.user, draft.key] = by_id[draft.id]
        answers[place] = answer
        seq += 1
    written.flush()
    return [answers[place] for place in range(len(drafts))]


def _made(draft: Draft, seq: int, now: datetime) -> TaskRecord:
    return new_record(draft, seq, now).record


def _record(known: _Known) -> TaskRecord:
    record = known[0].record
    assert record is not None
    return record


class _Rows:
    """The rows of new tasks, written some hundred at a time."""

    def __init__(self, connection: sqlite3.Connection, sql: Mapping[str, str], now: datetime) -> None:
        self._connection = connection
        self._sql = sql
        self._now = now
        self._tasks: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._ties: list[dict[str, Any]] = []

    def add(self, task: dict[str, Any], first: Step | None = None, ties: Sequence[dict[str, Any]] = ()) -> None:
        """Write a task soon; `first` is its first step where it waits for others."""
        self._tasks.append(task)
        if first is not None:
            self._events += [rows.event_columns(first.record, happened, self._now) for happened in first.events]
            self._ties += ties
        if len(self._tasks) == _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what has been added; each task is there before whatever waits for it."""
        if self._tasks:
            self._add_tasks()
            self._connection.executemany(self._sql["add_edge"], self._ties)
            self._connection.executemany(self._sql["add_event"], self._events)
            of = {"first": self._tasks[0]["seq"], "at": rows.micros(self._now)}
            self._connection.execute(self._sql["add_submitted"], of)
        self._tasks, self._events, self._ties = [], [], []

    def _add_tasks(self) -> None:
        """Add the rows by as few statements as there can be, of a few sizes that stay prepared.

        SQLite runs beside Python's other threads while it works at a statement. Between two of them it waits for its
        turn, 5 ms each time while another request is being read: ten thousand small ones would take a minute.
        """
        start = 0
        while left := len(self._tasks) - start:
            count = 1 << left.bit_length() - 1
            statement, columns = of_many("add_task", count)
            chunk = self._tasks[start : start + count]
            self._connection.execute(statement, list(chain.from_iterable(map(itemgetter(*columns), chunk))))
            start += count


def _known(
    connection: sqlite3.Connection,
    sql: Mapping[str, str],
    drafts: Sequence[Draft],
    waits: Sequence[Sequence[Dependency]],
) -> tuple[dict[tuple[str, str], _Known], dict[str, _Known]]:
    """Return the stored tasks that have the key or the id of a draft, or that one waits for, by either."""
    by_key: dict[tuple[str, str], _Known] = {}
    by_id: dict[str, _Known] = {}
    named = [(draft.user, one) for draft, those in zip(drafts, waits, strict=True) for one in those]
    keys = [(draft.user, draft.key) for draft in drafts if draft.key is not None]
    keys = list(dict.fromkeys([*keys, *((user, one.key) for user, one in named if one.key is not None)]))
    ids = list(dict.fromkeys([*(draft.id for draft in drafts), *(one.task for _, one in named if one.task)]))
    found = connection.execute(sql["find_by_keys"], {"keys": json.dumps(keys)}).fetchall() if keys else []
    found += connection.execute(sql["find_by_ids"], {"ids": json.dumps(ids)}).fetchall()
    for row in found:
        record = rows.record_of(row)
        by_id[record.id] = Submission.of(record), row[9], row[10]
        if row[9] is not None:
            by_key[record.user, row[9]] = by_id[record.id]
    return by_key, by_id
