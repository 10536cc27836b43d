"""How drafts become rows: what is known already is looked up at once, and what is new goes in together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from simyard.dependency import Dependency
from simyard.errors import InvalidInput
from tasks import rows
from tasks.admission import Origin, conflict_of
from tasks.dependencies import begun, edges_of, in_order, resolved
from tasks.lifecycle import new_record
from tasks.record import Draft, Submission, TaskRecord

_Known = tuple[TaskRecord, Origin]


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
    by_key, by_id = _known(connection, sql, drafts)

    def named(user: str, one: Dependency) -> tuple[str, str] | None:
        found = by_id.get(one.task or "") if one.key is None else by_key.get((user, one.key))
        return None if found is None else (found[0].id, found[0].user)

    order, circles = in_order(drafts)
    seq = connection.execute(sql["next_seq"]).fetchone()[0]
    answers = {place: Submission(error=error) for place, error in circles.items()}
    ties: list[dict[str, Any]] = []
    tasks: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for place in order:
        draft, digest = drafts[place], digests[place]
        known = by_key.get((draft.user, draft.key)) if draft.key is not None else None
        known = known or by_id.get(draft.id)
        if known is not None:
            record, origin = known
            error = conflict_of(draft, origin)
            answers[place] = Submission(error=error) if error else Submission(record=record)
            continue
        if draft.spec.dependencies:
            try:
                draft = resolved(draft, partial(named, draft.user))
            except InvalidInput as refusal:
                answers[place] = Submission(error=refusal)
                continue
            edges = edges_of(draft, lambda task: by_id[task][0].status)
            first = begun(new_record(draft, seq, now), edges, lambda task: by_id[task][0].status, now)
            ties += [rows.edge_columns(edge, child=seq, parent=by_id[edge.parent][0].seq) for edge in edges]
        else:
            first = new_record(draft, seq, now)
        record = first.record
        columns = rows.task_columns(record, draft, digest)
        tasks.append(columns)
        events += [rows.event_columns(record, happened, now) for happened in first.events]
        origin = Origin(task=draft.id, user=draft.user, key=draft.key, digest=draft.digest)
        by_id[draft.id] = record, origin
        if draft.key is not None:
            by_key[draft.user, draft.key] = record, origin
        answers[place] = Submission(record=record, created=True, body=columns["body"])
        seq += 1
    connection.executemany(sql["add_inputs"], ({"sha256": sha256, "files": files} for sha256, files in lists.items()))
    connection.executemany(sql["add_task"], tasks)
    connection.executemany(sql["add_event"], events)
    connection.executemany(sql["add_edge"], ties)
    return [answers[place] for place in range(len(drafts))]


def _known(
    connection: sqlite3.Connection, sql: Mapping[str, str], drafts: Sequence[Draft]
) -> tuple[dict[tuple[str, str], _Known], dict[str, _Known]]:
    """Return the stored tasks that have the key or the id of a draft, or that one waits for, by either."""
    by_key: dict[tuple[str, str], _Known] = {}
    by_id: dict[str, _Known] = {}
    named = [(draft.user, one) for draft in drafts for one in draft.spec.dependencies]
    keys = [(draft.user, draft.key) for draft in drafts if draft.key is not None]
    keys = list(dict.fromkeys([*keys, *((user, one.key) for user, one in named if one.key is not None)]))
    ids = list(dict.fromkeys([*(draft.id for draft in drafts), *(one.task for _, one in named if one.task)]))
    found = connection.execute(sql["find_by_keys"], {"keys": json.dumps(keys)}).fetchall() if keys else []
    found += connection.execute(sql["find_by_ids"], {"ids": json.dumps(ids)}).fetchall()
    for row in found:
        record = rows.record_of(row)
        origin = Origin(task=record.id, user=record.user, key=row[9], digest=row[10])
        by_id[record.id] = record, origin
        if origin.key is not None:
            by_key[origin.user, origin.key] = record, origin
    return by_key, by_id
