"""The store of tasks over a PostgreSQL database."""

from __future__ import annotations

import builtins
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from simyard.dependency import Dependency
from simyard.errors import Conflict, InvalidInput, NotFound
from simyard.event import Event
from simyard.status import Status
from tasks import rows
from tasks.admission import Origin, case_conflict_of, conflict_of, none_accepted, sweep_conflict_of
from tasks.dependencies import Tie, begun, edges_of, in_order, resolved, tie_of
from tasks.errors import Deposed, Refused, StoreUnavailable, not_removable, withdrawn
from tasks.history import MAX_EVENTS, MAX_REFUSALS, refusal_of
from tasks.keys import StoredKey
from tasks.lanes import merged, share
from tasks.lifecycle import Happened, Step, new_record, step
from tasks.postgres.connecting import Connection, Dial
from tasks.postgres.database import Database
from tasks.postgres.news import Bell, Ear
from tasks.postgres.statements import statements
from tasks.record import Draft, Lane, Submission, SweepDraft, SweepSubmission, TaskQuery, TaskRecord
from tasks.sql_store import SqlStore, limit_of
from tasks.stimulus import (
    Adopt,
    Dispatch,
    Expire,
    Forgive,
    Lost,
    Release,
    Renew,
    Reused,
    Settled,
    Stimulus,
    Undelivered,
    Wait,
)

_LOOK_SECONDS = 1.0
"""How often one that waits for news looks by itself, so that a lost notification costs no more than this."""

_RACES = 100
"""How often a batch may meet tasks that another transaction has just added; each time there is one less to meet."""


class _Raced(Exception):  # noqa: N818 - it is a signal to the transaction, and never leaves this module
    """Another transaction has added one of the tasks meanwhile."""


class PostgresStore(SqlStore):
    """A Store in the schema `simyard` of a PostgreSQL database; servers on several machines may use it together.

    `busy_seconds` is how long a call waits for others before it raises StoreUnavailable. When the server goes away, a
    call is made again for up to some two seconds. If the answer to the last commit was lost, StoreUnavailable leaves
    open whether it was kept; the same request sent again gets the right answer in both cases.
    """

    def __init__(self, url: str, *, busy_seconds: float = 10.0, connections: int = 8) -> None:
        self._sql = statements()
        dial = Dial(url, seconds=busy_seconds)
        self._database = Database(dial, busy_seconds=busy_seconds, connections=connections)
        self._bell, self._ear = Bell(dial), Ear(dial)
        self._epoch: int | None = None

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """See Store."""
        digests, lists = self._pack(drafts)
        added: set[str] = set()
        for _ in range(_RACES):
            try:
                answers = self._database.write(
                    lambda connection: self._submit(connection, drafts, digests, lists, added, now, atomic=atomic)
                )
            except _Raced:
                continue  # the other one has committed, so this time its task is found
            if any(answer.created for answer in answers):
                self._bell.ring()
            return answers
        raise StoreUnavailable("Others have added the same tasks again and again.")

    def _submit(
        self,
        connection: Connection,
        drafts: Sequence[Draft],
        digests: Sequence[bytes],
        lists: Mapping[bytes, bytes],
        added: set[str],
        now: datetime,
        *,
        atomic: bool,
    ) -> builtins.list[Submission]:
        """Return the answers; `added` holds the ids that an earlier try may have added, and gets those of this one."""
        known_keys, known_ids = self._find(connection, drafts)

        def named(user: str, one: Dependency) -> tuple[str, str] | None:
            found = known_ids.get(one.task or "") if one.key is None else known_keys.get((user, one.key))
            return None if found is None else (found[1].task, found[1].user)

        order, circles = in_order(drafts)
        answers: dict[int, Submission | None] = {place: Submission(error=error) for place, error in circles.items()}
        fresh: dict[int, Draft] = {}
        places: dict[str, int] = {}
        same: dict[int, int] = {}
        for place in order:
            draft = drafts[place]
            found = known_keys.get((draft.user, draft.key)) if draft.key is not None else None
            found = found or known_ids.get(draft.id)
            if found is None:
                try:
                    fresh[place] = resolved(draft, partial(named, draft.user))
                except InvalidInput as refusal:
                    answers[place] = Submission(error=refusal)
                    continue
                origin = Origin(task=draft.id, user=draft.user, key=draft.key, digest=draft.digest)
                known_ids[draft.id] = (None, origin)
                if draft.key is not None:
                    known_keys[draft.user, draft.key] = (None, origin)
                places[draft.id] = place
                answers[place] = None
                continue
            record, origin = found
            if error := conflict_of(draft, origin):
                answers[place] = Submission(error=error)
            elif record is None:
                same[place] = places[origin.task]
                answers[place] = None
            else:
                answers[place] = Submission.of(record, created=draft.id == record.id and record.id in added)
        in_turn = [answers[place] for place in range(len(drafts))]
        if atomic and any(answer is not None and answer.error for answer in in_turn):
            return none_accepted([answer or Submission(created=True) for answer in in_turn])
        known = {task: record for task, (record, _) in known_ids.items() if record is not None}
        made = self._add(connection, fresh, digests, lists, known, now)
        added.update(places)
        return [
            answer or (made[same[place]]._replace(created=False) if place in same else made[place])
            for place, answer in enumerate(in_turn)
        ]

    def _find(
        self, connection: Connection, drafts: Sequence[Draft]
    ) -> tuple[dict[tuple[str, str], tuple[TaskRecord | None, Origin]], dict[str, tuple[TaskRecord | None, Origin]]]:
        """Return the tasks that are there already, by their user and key and by their id.

        Those that a draft waits for are among them, and do not end before the transaction does.
        """
        keyed = [(draft.user, draft.key) for draft in drafts if draft.key is not None]
        asked = {"users": [user for user, _ in keyed], "keys": [key for _, key in keyed]}
        found = self._run(connection, "find_known", asked | {"ids": [draft.id for draft in drafts]}).fetchall()
        if named := [(draft.user, one) for draft in drafts for one in draft.spec.dependencies]:
            # As they are once the lock is there, which may be later than what was found before.
            found += self._run(connection, "lock_named", _names(named)).fetchall()
        by_key, by_id = rows.known_of(found)
        # Those that are to be made stand among them too, without a record.
        return {**by_key}, {**by_id}

    def _add(
        self,
        connection: Connection,
        fresh: Mapping[int, Draft],
        digests: Sequence[bytes],
        lists: Mapping[bytes, bytes],
        known: dict[str, TaskRecord],
        now: datetime,
    ) -> dict[int, Submission]:
        """Add drafts by their place in the batch, and return the answers to them by their place.

        Each comes after those that it waits for; `known` has those that are there already.
        """
        if not fresh:
            return {}
        seqs = self._run(connection, "draw_seqs", {"count": len(fresh)}).fetchall()
        firsts: dict[int, Step] = {}
        ties: builtins.list[dict[str, Any]] = []
        for (seq,), (place, draft) in zip(seqs, fresh.items(), strict=True):
            edges = edges_of(draft, lambda task: known[task].status)
            firsts[place] = begun(new_record(draft, seq, now), edges, lambda task: known[task].status, now)
            known[draft.id] = firsts[place].record
            ties += [rows.edge_columns(edge, child=seq, parent=known[edge.parent].seq) for edge in edges]
        # In one order for all, so that two batches with the same lists do not wait for each other for ever.
        for digest in sorted({digests[place] for place in firsts} & lists.keys()):
            self._run(connection, "add_inputs", {"sha256": digest, "files": lists[digest]})
        columns = [rows.task_columns(first.record, fresh[place], digests[place]) for place, first in firsts.items()]
        if len(self._run(connection, "add_tasks", _turned(columns)).fetchall()) != len(columns):
            raise _Raced
        if ties:
            self._run(connection, "add_edges", _turned(ties))
        happened = [(first.record, event) for first in firsts.values() for event in first.events]
        self._note(connection, happened, now)
        return {
            place: Submission.of(first.record, created=True, body=row["body"])
            for (place, first), row in zip(firsts.items(), columns, strict=True)
        }

    def submit_sweep(self, sweep: SweepDraft, drafts: Sequence[Draft], now: datetime) -> SweepSubmission:
        """See Store."""
        digests, lists = self._pack(drafts)
        asked = {"id": sweep.id, "user": sweep.user, "key": sweep.key}
        tried = False

        def work(connection: Connection) -> SweepSubmission:
            nonlocal tried
            found = self._run(connection, "known_sweep", asked).fetchone()
            if found is not None:
                known = rows.sweep_of_row(found)
                if error := sweep_conflict_of(sweep, known):
                    raise error
                return SweepSubmission(record=known, created=tried and known.id == sweep.id)
            made = self._run(connection, "add_sweep", rows.sweep_columns(sweep, len(drafts), now)).fetchone()
            if made is None:
                raise _Raced
            for answer in self._submit(connection, drafts, digests, lists, set(), now, atomic=False):
                if (refused := case_conflict_of(answer)) is not None:
                    raise refused
            tried = True
            return SweepSubmission(record=rows.sweep_of_row(made), created=True)

        for _ in range(_RACES):
            try:
                answer = self._database.write(work)
            except _Raced:
                continue
            if answer.created:
                self._bell.ring()
            return answer
        raise StoreUnavailable("Others have added the same sweep again and again.")

    def named(self, user: str, references: Sequence[Dependency]) -> dict[tuple[str | None, str | None], TaskRecord]:
        """See Store."""
        found = self._read("find_known", **_names([(user, one) for one in references]))
        mine = [(rows.record_of(row), row[9]) for row in found if row[2] == user]
        by_name = {(record.id, None): record for record, _ in mine} | {(None, key): record for record, key in mine}
        return {one.named: by_name[one.named] for one in references if one.named in by_name}

    def settle(self, now: datetime, limit: int) -> int:
        """See Store."""
        if not self._read("has_unsettled")[0][0]:
            return 0

        def work(connection: Connection) -> int:
            self._check_lead(connection)
            self._run(connection, "announce_events", {})
            told = 0
            # Who ends by it may have others that wait for it, and they are found the next time round.
            while found := self._run(connection, "unsettled", {"limit": limit_of(limit - told)}).fetchall():
                seqs = {"seqs": [row[0] for row in found]}
                records = {row[0]: rows.record_of(row) for row in self._run(connection, "lock_seqs", seqs).fetchall()}
                for row in found:
                    self._settle(connection, records, row, now)
                told += len(found)
            self._run(connection, "forget_settled", {})
            return told

        told = self._database.write(work)
        self._bell.ring()
        return told

    def _settle(self, connection: Connection, records: dict[int, TaskRecord], row: rows.Row, now: datetime) -> None:
        child, parent, needs_success, task, status = row
        tie = tie_of(Status(status), needs_success=needs_success)
        self._run(connection, "save_tie", {"child": child, "parent": parent, "tie": tie.value})
        settled = Settled(task, Status(status), tie is Tie.MET, self._is_free(connection, child))
        after = step(records[child], settled, now)
        self._save(connection, records[child], after, now, mark=0)
        records[child] = after.record

    def _is_free(self, connection: Connection, seq: int) -> bool:
        return bool(self._run(connection, "is_free", {"child": seq}).fetchone()[0])

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
        sql = self._sql["list"].replace("/* filters */", conditions).encode()
        values = _storable(filters | {"limit": limit_of(query.limit)})
        found = self._database.read(lambda connection: connection.execute(sql, values).fetchall())
        return [rows.record_of(row) for row in found]

    def queue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        lanes = self.lanes() if limit > 0 else []
        if not lanes:
            return []
        groups, users, projects = map(builtins.list, zip(*lanes, strict=True))
        asked = {"groups": groups, "users": users, "projects": projects, "limit": limit_of(share(limit, len(lanes)))}
        return merged(rows.record_of(row) for row in self._read("queue", now=rows.micros(now), **asked))

    def lanes(self) -> builtins.list[Lane]:
        """See Store."""
        return sorted(Lane(*row) for row in self._read("lanes"))

    def earlier_results(self, tasks: Sequence[str]) -> dict[str, TaskRecord]:
        """See Store."""
        return {row[9]: rows.record_of(row) for row in self._read("earlier_results", ids=list(tasks))}

    def _let_go(self, name: str, task: str) -> None:
        tried = False

        def work(connection: Connection) -> Conflict | None:
            nonlocal tried
            # Who gives its result to a later task holds the row until that is committed; only what is read after this
            # statement is sure to have it.
            known = self._run(connection, "lock_task", {"id": task}).fetchone()
            if self._run(connection, name, {"id": task}).fetchone() is None and not tried:
                if known is not None:
                    return not_removable(task, ended=rows.record_of(known).status.is_end)
                raise NotFound(f"There is no task {task!r}.")
            tried = True
            return None

        if error := self._database.write(work):
            raise error

    def apply(
        self, task: str, stimulus: Stimulus, now: datetime, *, earlier: Sequence[tuple[Stimulus, datetime]] = ()
    ) -> TaskRecord:
        """See Store.

        Raises:
            Deposed: this store has led, another server leads now, and the stimulus is a dispatcher's decision.
        """
        renewal = isinstance(stimulus, Renew) and not earlier
        mark = secrets.randbits(63)
        kept: TaskRecord | Refused | None = None

        def work(connection: Connection) -> TaskRecord | Refused:
            nonlocal kept
            if isinstance(stimulus, Adopt | Dispatch | Expire | Forgive | Lost | Reused | Undelivered | Wait):
                self._check_lead(connection)
            row = self._run(connection, "lock_task", {"id": task}).fetchone()
            if row is None:
                raise NotFound(f"There is no task {task!r}.")
            if kept is not None and row[11] == mark:
                return kept  # an earlier try has stored it, and only the answer was lost
            record = rows.record_of(row)
            sent = stimulus
            if isinstance(sent, Release) and record.has_failed_dependency:
                self._run(connection, "release", {"child": record.seq})
                sent = Release(is_last=self._is_free(connection, record.seq))
            answer: TaskRecord | Refused = record
            for one, at in (*earlier, (sent, now)):
                answer = self._step(connection, record, one, at, mark=mark)
                if not isinstance(answer, Refused):
                    record = answer
            kept = answer
            return answer

        # A renewal comes often and is soon followed by the next, so it does not wait for the disk.
        answer = self._database.write(work, durable=not renewal)
        if not renewal:
            self._bell.ring()
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _step(
        self, connection: Connection, record: TaskRecord, stimulus: Stimulus, now: datetime, *, mark: int
    ) -> TaskRecord | Refused:
        try:
            if isinstance(stimulus, Reused) and not self._is_reusable(connection, stimulus.source):
                raise withdrawn(stimulus.source)
            after = step(record, stimulus, now)
        except Refused as refused:
            counted = self._run(connection, "count_refused", {"task": record.seq}).fetchone()
            if counted is not None and counted[0] < MAX_REFUSALS:
                self._run(connection, "announce_events", {})
                self._note(connection, [(record, refusal_of(record, stimulus, refused))], now)
                self._trim(connection, record.seq)
            return refused
        if after.events:
            self._run(connection, "announce_events", {})
        self._save(connection, record, after, now, mark=mark, renewal=isinstance(stimulus, Renew))
        return after.record

    def _is_reusable(self, connection: Connection, task: str) -> bool:
        return self._run(connection, "is_reusable", {"id": task}).fetchone() is not None

    def events(
        self, *, task: str | None = None, sweep: str | None = None, after: int = 0, limit: int = 1000
    ) -> builtins.list[Event]:
        """See Store."""
        page = {"after": rows.integer(after), "limit": limit_of(limit)}
        if sweep is not None:
            found = self._read_decided("read_sweep_events", page | {"sweep": sweep})
        elif task is None:
            found = self._read_decided("read_events", page)
        else:
            found = self._read("read_task_events", id=task, **page)
        return [rows.event_of_row(row) for row in found]

    def latest(self) -> int:
        """See Store."""
        [(seq,)] = self._read_decided("latest_event", {})
        return int(seq)

    def wait(self, after: int, seconds: float) -> int:
        """See Store."""
        deadline = time.monotonic() + seconds
        while True:
            count = self._ear.count()
            latest = self.latest()
            left = deadline - time.monotonic()
            if latest > after or left <= 0:
                return latest
            self._ear.wait(count, min(left, _LOOK_SECONDS))

    def add_key(self, key: StoredKey) -> None:
        """See Store."""
        columns = {
            "id": key.id,
            "hash": key.hash,
            "user": key.user,
            "created_at": rows.micros(key.created_at),
            "expires_at": rows.optional_micros(key.expires_at),
        }
        tried = False

        def work(connection: Connection) -> bool:
            nonlocal tried
            if self._run(connection, "add_key", columns).fetchone():
                tried = True
                return True
            found = self._run(connection, "find_key", {"hash": key.hash}).fetchone()
            # Ids are random: one that an earlier try has sent is its own.
            return tried and found is not None and rows.key_of(found) == key

        if not self._database.write(work):
            raise Conflict("There is such a key already.")

    def revoke_key(self, key: str) -> None:
        """See Store."""
        tried = False

        def work(connection: Connection) -> bool:
            nonlocal tried
            tried = self._run(connection, "revoke_key", {"id": key}).fetchone() is not None or tried
            return tried

        if not self._database.write(work):
            raise NotFound(f"There is no key {key!r}.")

    def lead(self, server: str, seconds: float) -> int | None:
        """See Contested."""
        values = {"holder": server, "seconds": seconds, "epoch": self._epoch or 0}
        row = self._database.write(lambda connection: self._run(connection, "lead", values).fetchone())
        if row is None:
            return None
        self._epoch = int(row[0])
        return self._epoch

    def close(self) -> None:
        """See Store."""
        self._bell.close()
        self._ear.close()
        self._database.close()

    def _check_lead(self, connection: Connection) -> None:
        if self._epoch is not None and not self._run(connection, "check_lead", {"epoch": self._epoch}).fetchone():
            raise Deposed

    def _run(self, connection: Connection, name: str, values: Mapping[str, Any]) -> Any:
        return connection.execute(self._sql[name].encode(), _storable(values))

    def _read(self, name: str, **values: Any) -> builtins.list[rows.Row]:
        def work(connection: Connection) -> builtins.list[rows.Row]:
            found: builtins.list[rows.Row] = self._run(connection, name, values).fetchall()
            return found

        return self._database.read(work)

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        self._database.write(lambda connection: self._run(connection, name, values))

    def _read_decided(self, name: str, values: Mapping[str, Any]) -> builtins.list[rows.Row]:
        def work(connection: Connection) -> builtins.list[rows.Row]:
            [decided] = self._run(connection, "decided_events", {}).fetchone()
            found: builtins.list[rows.Row] = self._run(connection, name, {**values, "decided": decided}).fetchall()
            return found

        return self._database.read(work)

    def _note(self, connection: Connection, happened: Sequence[tuple[TaskRecord, Happened]], now: datetime) -> None:
        """Keep events; the transaction has announced them."""
        columns = [rows.event_columns(record, event, now) for record, event in happened]
        self._run(connection, "add_events", _turned(columns))

    def _save(
        self,
        connection: Connection,
        record: TaskRecord,
        after: Step,
        now: datetime,
        *,
        mark: int,
        renewal: bool = False,
    ) -> None:
        """Keep what a stimulus made of a task; the transaction has announced events where there are some."""
        if after.record != record:
            columns = rows.changing_columns(after.record) | {"mark": mark}
            if renewal:
                columns = {name: columns[name] for name in ("seq", "lease_until")}
            self._run(connection, "save_lease" if renewal else "save_task", columns)
        if after.events:
            self._note(connection, [(record, event) for event in after.events], now)
            self._trim(connection, record.seq)
        if after.record.status.is_end and not record.status.is_end:
            self._run(connection, "mark_unsettled", {"task": record.seq})

    def _trim(self, connection: Connection, seq: int) -> None:
        self._run(connection, "trim_events", {"task": seq, "keep": MAX_EVENTS})


def _names(named: Sequence[tuple[str, Dependency]]) -> dict[str, builtins.list[str]]:
    """Return ids, and users with keys, each once."""
    ids = dict.fromkeys(one.task for _, one in named if one.task is not None)
    keyed = dict.fromkeys((user, one.key) for user, one in named if one.key is not None)
    return {"ids": [*ids], "users": [user for user, _ in keyed], "keys": [key for _, key in keyed]}


def _turned(columns: Sequence[Mapping[str, Any]]) -> dict[str, builtins.list[Any]]:
    """Return the columns of several rows as one list for each column."""
    return {name: [row[name] for row in columns] for name in columns[0]}


def _storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without the one character that PostgreSQL cannot hold in a text."""

    def one(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return [one(item) for item in value] if isinstance(value, builtins.list) else value

    return {name: one(value) for name, value in values.items()}
