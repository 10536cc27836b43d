"""How drafts become rows: what is known already is looked up at once, and what is new goes in together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks import rows
from tasks.admission import Origin, conflict_of
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
    seq = connection.execute(sql["next_seq"]).fetchone()[0]
    answers: list[Submission] = []
    tasks: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for draft, digest in zip(drafts, digests, strict=True):
        known = by_key.get((draft.user, draft.key)) if draft.key is not None else None
        known = known or by_id.get(draft.id)
        if known is not None:
            record, origin = known
            error = conflict_of(draft, origin)
            answers.append(Submission(error=error) if error else Submission(record=record))
            continue
        first = new_record(draft, seq, now)
        record = first.record
        tasks.append(
            rows.fixed_columns(record)
            | rows.changing_columns(record)
            | {"key": draft.key, "digest": draft.digest, "inputs": digest, "fingerprint": draft.fingerprint}
        )
        events += [rows.event_columns(record, happened, now) for happened in first.events]
        origin = Origin(task=draft.id, user=draft.user, key=draft.key, digest=draft.digest)
        by_id[draft.id] = record, origin
        if draft.key is not None:
            by_key[draft.user, draft.key] = record, origin
        answers.append(Submission(record=record, created=True))
        seq += 1
    connection.executemany(sql["add_inputs"], ({"sha256": sha256, "files": files} for sha256, files in lists.items()))
    connection.executemany(sql["add_task"], tasks)
    connection.executemany(sql["add_event"], events)
    return answers


def _known(
    connection: sqlite3.Connection, sql: Mapping[str, str], drafts: Sequence[Draft]
) -> tuple[dict[tuple[str, str], _Known], dict[str, _Known]]:
    """Return the stored tasks that have the key or the id of a draft, by either."""
    by_key: dict[tuple[str, str], _Known] = {}
    by_id: dict[str, _Known] = {}
    keys = [(draft.user, draft.key) for draft in drafts if draft.key is not None]
    found = connection.execute(sql["find_by_keys"], {"keys": json.dumps(keys)}).fetchall() if keys else []
    found += connection.execute(sql["find_by_ids"], {"ids": json.dumps([draft.id for draft in drafts])}).fetchall()
    for row in found:
        record = rows.record_of(row)
        origin = Origin(task=record.id, user=record.user, key=row[9], digest=row[10])
        by_id[record.id] = record, origin
        if origin.key is not None:
            by_key[origin.user, origin.key] = record, origin
    return by_key, by_id
