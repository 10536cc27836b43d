"""How drafts become rows: new ones that are alike go in together, by few statements and with few values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain, count
from operator import itemgetter
from typing import Any, NamedTuple

from simyard.dependency import Dependency
from simyard.errors import InvalidInput
from simyard.status import Status
from tasks import rows
from tasks.admission import Origin, conflict_of
from tasks.dependencies import begun, edges_of, in_order, resolved
from tasks.lifecycle import new_record
from tasks.newcomers import OWN_COLUMNS, Newcomers, Pattern
from tasks.record import Draft, Submission, TaskRecord
from tasks.sqlite.statements import columns_of, of_many, statements

_MOST = 1024
"""Rows of one statement, which takes 32,766 values; a task has 24."""
_FEW = 16
"""Fewer tasks than these have no statement of their own, however much they have alike."""
_ALIKE = tuple(column for column in columns_of("add_task") if column not in OWN_COLUMNS)
_alike = itemgetter(*_ALIKE)


class Batch(NamedTuple):
    """Drafts that go in together."""

    drafts: Sequence[Draft]
    digests: Sequence[bytes]
    """The hash of each draft's list of input files."""
    lists: Mapping[bytes, bytes]
    """The compressed lists that are to be kept, by their hashes."""
    now: datetime


def add_new(connection: sqlite3.Connection, batch: Batch) -> list[Submission]:
    """Return the answers to drafts that wait for no task, after writing them; it belongs into one transaction.

    Raises:
        IntegrityError: one of them is there already, or comes twice.
    """
    first, now = _begin(connection, batch), batch.now
    newcomers = Newcomers(now)
    made: dict[Pattern, list[tuple[Any, ...]]] = {}
    answers = []
    for seq, draft, digest in zip(count(first), batch.drafts, batch.digests, strict=False):
        pattern = newcomers.pattern(draft)
        own = pattern.own(draft, seq, digest)
        made.setdefault(pattern, []).append(own)
        answers.append(Submission(draft.id, partial(_made, draft, seq, now), created=True, body=own[-1]))
    whole: list[tuple[Any, ...]] = []
    for pattern, those in made.items():
        alike = _alike(pattern.columns)
        if len(those) < _FEW:
            whole += [own + alike for own in those]
        else:
            _add(connection, "add_task", OWN_COLUMNS, those, alike)
    _add(connection, "add_task", OWN_COLUMNS + _ALIKE, whole)
    connection.execute(statements()["add_submitted"], {"first": first, "at": rows.micros(now)})
    return answers


def take_in(connection: sqlite3.Connection, batch: Batch) -> list[Submission]:
    """Do as `add_new` does, also where drafts wait for tasks, and where some are there already."""
    drafts, now = batch.drafts, batch.now
    by_key, by_id = _known(connection, drafts)

    def named(user: str, one: Dependency) -> tuple[str, str] | None:
        found = by_id.get(one.task or "") if one.key is None else by_key.get((user, one.key))
        return None if found is None else (found[1].task, found[1].user)

    def status_of(task: str) -> Status:
        return by_id[task][0].status

    order, circles = in_order(drafts)
    seq = _begin(connection, batch)
    answers = {place: Submission(error=error) for place, error in circles.items()}
    tasks: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    ties: list[dict[str, Any]] = []
    for place in order:
        draft = drafts[place]
        known = by_key.get((draft.user, draft.key)) if draft.key is not None else None
        known = known or by_id.get(draft.id)
        if known is not None:
            error = conflict_of(draft, known[1])
            answers[place] = Submission(error=error) if error else Submission.of(known[0])
            continue
        try:
            draft = resolved(draft, partial(named, draft.user))
        except InvalidInput as refusal:
            answers[place] = Submission(error=refusal)
            continue
        edges = edges_of(draft, status_of)
        first = begun(new_record(draft, seq, now), edges, status_of, now)
        columns = rows.task_columns(first.record, draft, batch.digests[place])
        tasks.append(columns)
        events += [rows.event_columns(first.record, happened, now) for happened in first.events]
        ties += [rows.edge_columns(edge, child=seq, parent=by_id[edge.parent][0].seq) for edge in edges]
        answers[place] = Submission.of(first.record, created=True, body=columns["body"])
        origin = Origin(task=draft.id, user=draft.user, key=draft.key, digest=draft.digest)
        by_id[draft.id] = first.record, origin
        if draft.key is not None:
            by_key[draft.user, draft.key] = by_id[draft.id]
        seq += 1
    for name, made in (("add_task", tasks), ("add_edge", ties), ("add_event", events)):
        _add_all(connection, name, made)
    return [answers[place] for place in range(len(drafts))]


def _begin(connection: sqlite3.Connection, batch: Batch) -> int:
    """Keep the lists of input files, and return the number of the next task."""
    _add(connection, "add_inputs", ("sha256", "files"), list(batch.lists.items()))
    return int(connection.execute(statements()["next_seq"]).fetchone()[0])


def _made(draft: Draft, seq: int, now: datetime) -> TaskRecord:
    return new_record(draft, seq, now).record


def _add_all(connection: sqlite3.Connection, name: str, columns: Sequence[Mapping[str, Any]]) -> None:
    """Add rows, each given by its columns."""
    names = columns_of(name)
    _add(connection, name, names, list(map(itemgetter(*names), columns)))


def _add(
    connection: sqlite3.Connection,
    name: str,
    own: tuple[str, ...],
    added: Sequence[tuple[Any, ...]],
    alike: tuple[Any, ...] = (),
) -> None:
    """Add rows, each given by its own columns; `alike` has the values of the others.

    It takes as few statements as there can be, of a few sizes that stay prepared. SQLite runs beside Python's other
    threads while it works at a statement. Between two of them it waits for its turn, 5 ms each time while another
    request is being read: ten thousand small ones would take a minute.
    """
    start = 0
    while left := len(added) - start:
        size = min(_MOST, 1 << left.bit_length() - 1)
        values = chain.from_iterable(added[start : start + size])
        connection.execute(of_many(name, size, own), [*alike, *values])
        start += size


def _known(
    connection: sqlite3.Connection, drafts: Sequence[Draft]
) -> tuple[dict[tuple[str, str], rows.Known], dict[str, rows.Known]]:
    """Return the stored tasks that have the key or the id of a draft, or that one waits for, by either."""
    named = [(draft.user, one) for draft in drafts for one in draft.spec.dependencies]
    keys = [(draft.user, draft.key) for draft in drafts if draft.key is not None]
    keys = list(dict.fromkeys([*keys, *((user, one.key) for user, one in named if one.key is not None)]))
    ids = list(dict.fromkeys([*(draft.id for draft in drafts), *(one.task for _, one in named if one.task)]))
    sql = statements()
    found = connection.execute(sql["find_by_keys"], {"keys": json.dumps(keys)}).fetchall() if keys else []
    found += connection.execute(sql["find_by_ids"], {"ids": json.dumps(ids)}).fetchall()
    return rows.known_of(found)
