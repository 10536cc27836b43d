"""The store of tasks over one SQLite file."""

from __future__ import annotations

import builtins
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from simyard.dependency import Dependency
from simyard.errors import Conflict, NotFound
from simyard.event import Event
from simyard.status import Status
from tasks import rows
from tasks.admission import case_conflict_of, none_accepted, sweep_conflict_of
from tasks.dependencies import Tie, tie_of
from tasks.errors import Refused, not_removable, withdrawn
from tasks.history import MAX_EVENTS, MAX_REFUSALS, refusal_of
from tasks.keys import StoredKey
from tasks.lanes import merged, share
from tasks.lifecycle import Happened, step
from tasks.record import Draft, Lane, Submission, SweepDraft, SweepSubmission, TaskQuery, TaskRecord
from tasks.sql_store import SqlStore, limit_of
from tasks.sqlite.database import Database
from tasks.sqlite.intake import Batch, add_new, take_in
from tasks.sqlite.pages import index_for
from tasks.sqlite.statements import statements
from tasks.stimulus import Release, Renew, Reused, Settled, Stimulus

_LOOK_SECONDS = 0.03
"""How often one that waits for news looks; a look costs 0.1 ms."""


class _Undo(Exception):  # noqa: N818 - it is a signal to the transaction, and never leaves this module
    """The batch goes in whole or not at all, and not at all it is."""


_Take = Callable[[sqlite3.Connection, Batch], list[Submission]]
_Answer = TypeVar("_Answer")


def _mostly_new(drafts: Sequence[Draft], submit: Callable[[_Take], _Answer]) -> _Answer:
    """Submit as though none of the drafts were known, which is mostly so; where one is, do it again with a look."""
    if not any(draft.spec.dependencies for draft in drafts):
        with suppress(sqlite3.IntegrityError):
            return submit(add_new)
    return submit(take_in)


class SqliteStore(SqlStore):
    """A Store in a file on a local disk; several threads and several processes may use it together.

    `busy_seconds` is how long a call waits for others before it raises StoreUnavailable.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 10.0) -> None:
        self._sql = statements()
        self._database = Database(path, busy_seconds=busy_seconds)

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """See Store."""
        batch = Batch(drafts, *self._pack(drafts), now)

        def submit(take: _Take) -> builtins.list[Submission]:
            answers: builtins.list[Submission] = []
            with suppress(_Undo), self._database.write() as connection:
                answers = take(connection, batch)
                if atomic and any(answer.error for answer in answers):
                    raise _Undo
                return answers
            return none_accepted(answers)

        return _mostly_new(drafts, submit)

    def submit_sweep(self, sweep: SweepDraft, drafts: Sequence[Draft], now: datetime) -> SweepSubmission:
        """See Store."""
        batch = Batch(drafts, *self._pack(drafts), now)
        asked = {"id": sweep.id, "user": sweep.user, "key": sweep.key}

        def submit(take: _Take) -> SweepSubmission:
            with self._database.write() as connection:
                found = connection.execute(self._sql["known_sweep"], asked).fetchone()
                if found is not None:
                    known = rows.sweep_of_row(found)
                    if error := sweep_conflict_of(sweep, known):
                        raise error
                    return SweepSubmission(record=known, created=False)
                connection.execute(self._sql["add_sweep"], rows.sweep_columns(sweep, len(drafts), now))
                for answer in take(connection, batch):
                    if (refused := case_conflict_of(answer)) is not None:
                        raise refused
                made = connection.execute(self._sql["find_sweep"], {"id": sweep.id}).fetchone()
                return SweepSubmission(record=rows.sweep_of_row(made), created=True)

        return _mostly_new(drafts, submit)

    def named(self, user: str, references: Sequence[Dependency]) -> dict[tuple[str | None, str | None], TaskRecord]:
        """See Store."""
        keys = json.dumps([(user, one.key) for one in references if one.key is not None])
        found = {(None, row[9]): rows.record_of(row) for row in self._read("find_by_keys", keys=keys)}
        ids = json.dumps([one.task for one in references if one.task is not None])
        records = map(rows.record_of, self._read("find_by_ids", ids=ids))
        return found | {(record.id, None): record for record in records if record.user == user}

    def settle(self, now: datetime, limit: int) -> int:
        """See Store."""
        told = 0
        if self._read("has_unsettled")[0][0]:
            with self._database.write() as connection:
                # Who ends by it may have others that wait for it, and they are found the next time round.
                while found := connection.execute(self._sql["unsettled"], {"limit": limit_of(limit - told)}).fetchall():
                    for row in found:
                        self._settle(connection, row, now)
                    told += len(found)
                connection.execute(self._sql["forget_settled"])
        return told

    def _settle(self, connection: sqlite3.Connection, row: rows.Row, now: datetime) -> None:
        child, parent, needs_success, task, status = row
        tie = tie_of(Status(status), needs_success=bool(needs_success))
        connection.execute(self._sql["save_tie"], {"child": child, "parent": parent, "tie": tie.value})
        record = rows.record_of(connection.execute(self._sql["find_by_seq"], {"seq": child}).fetchone())
        is_last = self._is_free(connection, child)
        after = step(record, Settled(task, Status(status), tie is Tie.MET, is_last), now)
        self._note(connection, record, after.events, now)
        self._save(connection, record, after.record)
        self._trim(connection, record)

    def _is_free(self, connection: sqlite3.Connection, seq: int) -> bool:
        return bool(connection.execute(self._sql["is_free"], {"child": seq}).fetchone()[0])

    def list(self, query: TaskQuery) -> builtins.list[TaskRecord]:
        """See Store."""
        asked = {
            "status": None if query.status is None else query.status.value,
            "simulator": query.simulator,
            "project": query.project,
            "name": query.name,
            "group": query.group,
            "user": query.user,
            "sweep": query.sweep,
            "reused_from": query.reused_from,
            "before": None if query.before is None else rows.integer(query.before),
        }
        filters = {name: value for name, value in asked.items() if value is not None}
        conditions = " ".join(self._sql[f"list.{name}"] for name in filters)
        sql = self._sql["list"].replace("/* filters */", conditions).replace("/* index */", index_for(filters))
        with self._database.read() as connection:
            found = connection.execute(sql, filters | {"limit": limit_of(query.limit)}).fetchall()
        return [rows.record_of(row) for row in found]

    def queue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        if limit <= 0:
            return []
        with self._database.read() as connection:
            lanes = builtins.list(self._lanes(connection))
            asked = {"now": rows.micros(now), "limit": rows.integer(share(limit, len(lanes)))}
            found = [
                rows.record_of(row)
                for lane in lanes
                for row in connection.execute(self._sql["queue"], lane._asdict() | asked)
            ]
        return merged(found)

    def _lanes(self, connection: sqlite3.Connection) -> Iterator[Lane]:
        lane = Lane("", "", "")
        while found := connection.execute(self._sql["next_lanes"], lane._asdict()).fetchall():
            lane = min(Lane(*row) for row in found)
            yield lane

    def lanes(self) -> builtins.list[Lane]:
        """See Store."""
        with self._database.read() as connection:
            return builtins.list(self._lanes(connection))

    def earlier_results(self, tasks: Sequence[str]) -> dict[str, TaskRecord]:
        """See Store."""
        found = self._read("earlier_results", ids=json.dumps(list(tasks)))
        return {row[9]: rows.record_of(row) for row in found}

    def _let_go(self, name: str, task: str) -> None:
        with self._database.write() as connection:
            if connection.execute(self._sql[name], {"id": task}).rowcount == 0:
                known = connection.execute(self._sql["find_by_id"], {"id": task}).fetchone()
                if known is None:
                    raise NotFound(f"There is no task {task!r}.")
                raise not_removable(task, ended=rows.record_of(known).status.is_end)

    def apply(
        self, task: str, stimulus: Stimulus, now: datetime, *, earlier: Sequence[tuple[Stimulus, datetime]] = ()
    ) -> TaskRecord:
        """See Store."""
        refused: Refused | None = None
        renewal = isinstance(stimulus, Renew) and not earlier
        # A renewal comes often and is soon followed by the next, so it does not wait for the disk.
        with self._database.write(durable=not renewal) as connection:
            row = connection.execute(self._sql["find_by_id"], {"id": task}).fetchone()
            if row is None:
                raise NotFound(f"There is no task {task!r}.")
            before = record = rows.record_of(row)
            if isinstance(stimulus, Release) and record.has_failed_dependency:
                connection.execute(self._sql["release"], {"child": record.seq})
                stimulus = Release(is_last=self._is_free(connection, record.seq))
            for one, at in (*earlier, (stimulus, now)):
                refused = None
                try:
                    record = self._step(connection, record, one, at)
                except Refused as error:
                    refused = error
            # Once for all of them: what a task was in between nobody sees, and each update moves it in its indexes.
            self._save(connection, before, record, renewal=renewal)
            if refused is not None or not renewal:
                self._trim(connection, record)
        if refused is not None:
            raise refused
        return record

    def _step(
        self, connection: sqlite3.Connection, record: TaskRecord, stimulus: Stimulus, now: datetime
    ) -> TaskRecord:
        try:
            if isinstance(stimulus, Reused) and not self._is_reusable(connection, stimulus.source):
                raise withdrawn(stimulus.source)
            after = step(record, stimulus, now)
        except Refused as refused:
            counted = connection.execute(self._sql["count_refused"], {"task": record.seq}).fetchone()
            if counted[0] < MAX_REFUSALS:
                self._note(connection, record, (refusal_of(record, stimulus, refused),), now)
            raise
        self._note(connection, record, after.events, now)
        return after.record

    def _is_reusable(self, connection: sqlite3.Connection, task: str) -> bool:
        return connection.execute(self._sql["is_reusable"], {"id": task}).fetchone() is not None

    def events(
        self, *, task: str | None = None, sweep: str | None = None, after: int = 0, limit: int = 1000
    ) -> builtins.list[Event]:
        """See Store."""
        page = {"after": rows.integer(after), "limit": limit_of(limit)}
        if task is not None:
            found = self._read("read_task_events", id=task, **page)
        elif sweep is not None:
            found = self._read("read_sweep_events", sweep=sweep, **page)
        else:
            found = self._read("read_events", **page)
        return [rows.event_of_row(row) for row in found]

    def latest(self) -> int:
        """See Store."""
        [(seq,)] = self._read("latest_event")
        return int(seq)

    def wait(self, after: int, seconds: float) -> int:
        """See Store."""
        deadline = time.monotonic() + seconds
        while True:
            latest, left = self.latest(), deadline - time.monotonic()
            if latest > after or left <= 0:
                return latest
            time.sleep(min(left, _LOOK_SECONDS))

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

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(self._sql[name], values)

    def _save(
        self, connection: sqlite3.Connection, before: TaskRecord, after: TaskRecord, *, renewal: bool = False
    ) -> None:
        if after != before:
            columns = rows.changing_columns(after)
            if renewal:
                columns = {name: columns[name] for name in ("seq", "lease_until")}
            connection.execute(self._sql["save_lease" if renewal else "save_task"], columns)
        if after.status.is_end and not before.status.is_end:
            connection.execute(self._sql["mark_unsettled"], {"task": before.seq})

    def _note(
        self, connection: sqlite3.Connection, record: TaskRecord, events: tuple[Happened, ...], now: datetime
    ) -> None:
        for happened in events:
            connection.execute(self._sql["add_event"], rows.event_columns(record, happened, now))

    def _trim(self, connection: sqlite3.Connection, record: TaskRecord) -> None:
        connection.execute(self._sql["trim_events"], {"task": record.seq, "keep": MAX_EVENTS})
