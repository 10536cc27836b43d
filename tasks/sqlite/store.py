"""The store of tasks over one SQLite file."""

from __future__ import annotations

import builtins
import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from simyard.errors import Conflict, NotFound
from simyard.event import Event
from simyard.files import InputFile
from simyard.status import Status
from tasks.admission import Origin, conflict_of, none_accepted
from tasks.errors import Refused
from tasks.history import MAX_EVENTS, MAX_REFUSALS, refusal_of
from tasks.keys import StoredKey
from tasks.lifecycle import Happened, new_record, step
from tasks.record import Draft, Submission, TaskQuery, TaskRecord
from tasks.sqlite import rows
from tasks.sqlite.database import Database
from tasks.sqlite.statements import statements
from tasks.stimulus import Renew, Stimulus


class _Undo(Exception):  # noqa: N818 - it is a signal to the transaction, and never leaves this module
    """The batch goes in whole or not at all, and not at all it is."""


class SqliteStore:
    """A Store in a file on a local disk; several threads and several processes may use it together.

    `busy_seconds` is how long a call waits for others before it raises StoreUnavailable.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 10.0) -> None:
        self._sql = statements()
        self._database = Database(path, busy_seconds=busy_seconds)

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """See Store."""
        # Hashing and compressing may take long for many files, so it is done before the others have to wait.
        lists: dict[bytes, bytes] = {}
        digests = [self._pack(draft.spec.inputs, lists) for draft in drafts]
        answers: builtins.list[Submission] = []
        with suppress(_Undo), self._database.write() as connection:
            for draft, digest in zip(drafts, digests, strict=True):
                answers.append(self._submit(connection, draft, digest, lists, now))
            if atomic and any(answer.error for answer in answers):
                raise _Undo
            return answers
        return none_accepted(answers)

    def _pack(self, inputs: tuple[InputFile, ...], lists: dict[bytes, bytes]) -> bytes:
        packed = rows.pack_inputs(inputs)
        digest = hashlib.sha256(packed).digest()
        if digest not in lists and not self._read("has_inputs", sha256=digest):
            lists[digest] = rows.compress(packed)
        return digest

    def _submit(
        self,
        connection: sqlite3.Connection,
        draft: Draft,
        digest: bytes,
        lists: dict[bytes, bytes],
        now: datetime,
    ) -> Submission:
        known = None
        if draft.key is not None:
            known = connection.execute(self._sql["find_by_key"], {"user": draft.user, "key": draft.key}).fetchone()
        known = known or connection.execute(self._sql["find_by_id"], {"id": draft.id}).fetchone()
        if known is not None:
            record = rows.record_of(known)
            origin = Origin(task=record.id, user=record.user, key=known[9], digest=known[10])
            error = conflict_of(draft, origin)
            return Submission(error=error) if error else Submission(record=record)
        first = new_record(draft, connection.execute(self._sql["next_seq"]).fetchone()[0], now)
        if digest in lists:
            connection.execute(self._sql["add_inputs"], {"sha256": digest, "files": lists[digest]})
        columns = rows.fixed_columns(first.record) | rows.changing_columns(first.record)
        origin_columns = {"key": draft.key, "digest": draft.digest, "inputs": digest}
        connection.execute(self._sql["add_task"], columns | origin_columns)
        self._note(connection, first.record.seq, first.events, now)
        return Submission(record=first.record, created=True)

    def get(self, task: str) -> TaskRecord:
        """See Store."""
        return rows.record_of(self._read_one("find_by_id", task))

    def inputs(self, task: str) -> tuple[InputFile, ...]:
        """See Store."""
        return rows.inputs_of(self._read_one("read_inputs", task))

    def list(self, query: TaskQuery) -> builtins.list[TaskRecord]:
        """See Store."""
        asked = {
            "status": None if query.status is None else query.status.value,
            "simulator": query.simulator,
            "project": query.project,
            "name": query.name,
            "group": query.group,
            "user": query.user,
            "before": None if query.before is None else rows.integer(query.before),
        }
        filters = {name: value for name, value in asked.items() if value is not None}
        conditions = " ".join(self._sql[f"list.{name}"] for name in filters)
        sql = self._sql["list"].replace("/* filters */", conditions)
        with self._database.read() as connection:
            found = connection.execute(sql, filters | {"limit": _limit(query.limit)}).fetchall()
        return [rows.record_of(row) for row in found]

    def queue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        return [rows.record_of(row) for row in self._read("queue", now=rows.micros(now), limit=_limit(limit))]

    def position(self, task: str) -> int | None:
        """See Store."""
        seq, priority, status = self._read_one("place", task)
        if status != Status.QUEUED:
            return None
        return int(self._read("position", seq=seq, priority=priority)[0][0])

    def next_ready(self, now: datetime) -> datetime | None:
        """See Store."""
        first = self._read("next_ready", now=rows.micros(now))[0][0]
        return None if first is None else rows.moment_of(first)

    def overdue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        return [rows.record_of(row) for row in self._read("overdue", now=rows.micros(now), limit=_limit(limit))]

    def active(self) -> builtins.list[TaskRecord]:
        """See Store."""
        return [rows.record_of(row) for row in self._read("active")]

    def apply(self, task: str, stimulus: Stimulus, now: datetime) -> TaskRecord:
        """See Store."""
        renewal = isinstance(stimulus, Renew)
        refused: Refused | None = None
        # A renewal comes often and is soon followed by the next, so it does not wait for the disk.
        with self._database.write(durable=not renewal) as connection:
            row = connection.execute(self._sql["find_by_id"], {"id": task}).fetchone()
            if row is None:
                raise NotFound(f"There is no task {task!r}.")
            record = rows.record_of(row)
            try:
                after = step(record, stimulus, now)
            except Refused as error:
                refused = error
                counted = connection.execute(self._sql["count_refused"], {"task": record.seq}).fetchone()
                if counted[0] < MAX_REFUSALS:
                    self._note(connection, record.seq, (refusal_of(record, stimulus, error),), now)
            else:
                if after.record != record:
                    columns = rows.changing_columns(after.record)
                    if renewal:
                        columns = {name: columns[name] for name in ("seq", "lease_until")}
                    connection.execute(self._sql["save_lease" if renewal else "save_task"], columns)
                self._note(connection, record.seq, after.events, now)
        if refused is not None:
            raise refused
        return after.record

    def events(self, *, task: str | None = None, after: int = 0, limit: int = 1000) -> builtins.list[Event]:
        """See Store."""
        page = {"after": rows.integer(after), "limit": _limit(limit)}
        found = self._read("read_events", **page) if task is None else self._read("read_task_events", id=task, **page)
        return [rows.event_of_row(row) for row in found]

    def latest(self) -> int:
        """See Store."""
        [(seq,)] = self._read("latest_event")
        return int(seq)

    def counts(self) -> dict[Status, int]:
        """See Store."""
        return dict.fromkeys(Status, 0) | {Status(status): count for status, count in self._read("counts")}

    def add_key(self, key: StoredKey) -> None:
        """See Store."""
        columns = {
            "id": key.id,
            "hash": key.hash,
            "user": key.user,
            "created_at": rows.micros(key.created_at),
            "expires_at": rows.optional_micros(key.expires_at),
        }
        try:
            with self._database.write() as connection:
                connection.execute(self._sql["add_key"], columns)
        except sqlite3.IntegrityError:
            raise Conflict("There is such a key already.") from None

    def find_key(self, hashed: str) -> StoredKey | None:
        """See Store."""
        found = self._read("find_key", hash=hashed)
        return rows.key_of(found[0]) if found else None

    def list_keys(self) -> builtins.list[StoredKey]:
        """See Store."""
        return [rows.key_of(row) for row in self._read("list_keys")]

    def revoke_key(self, key: str) -> None:
        """See Store."""
        with self._database.write() as connection:
            if connection.execute(self._sql["revoke_key"], {"id": key}).rowcount == 0:
                raise NotFound(f"There is no key {key!r}.")

    def close(self) -> None:
        """See Store."""
        self._database.close()

    def _read(self, name: str, **values: Any) -> builtins.list[rows.Row]:
        with self._database.read() as connection:
            return connection.execute(self._sql[name], values).fetchall()

    def _read_one(self, name: str, task: str) -> rows.Row:
        found = self._read(name, id=task)
        if not found:
            raise NotFound(f"There is no task {task!r}.")
        return found[0]

    def _note(self, connection: sqlite3.Connection, seq: int, events: tuple[Happened, ...], now: datetime) -> None:
        for happened in events:
            connection.execute(self._sql["add_event"], rows.event_columns(seq, happened, now))
        if events:
            connection.execute(self._sql["trim_events"], {"task": seq, "keep": MAX_EVENTS})


def _limit(limit: int) -> int:
    """Return a limit that SQLite takes as one: a negative one would mean none."""
    return rows.integer(max(limit, 0))
