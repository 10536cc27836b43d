"""What the stores over SQL do alike: one statement by its name, and its rows as our words."""

from __future__ import annotations

import builtins
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from cluster.group_record import GroupRecord, changed_meanwhile
from cluster.ledger import Rental
from simyard.errors import NotFound
from simyard.files import InputFile
from simyard.status import Status
from tasks import rows
from tasks.keys import StoredKey
from tasks.lanes import Waiting, position
from tasks.ledger import RentalQuery
from tasks.record import Draft, Lane, SweepQuery, SweepRecord, TaskRecord, month_of
from tasks.retention import Retention
from tasks.rules import Account, Pause, Quota, Rules


class SqlStore(ABC):
    """The part of a Store that needs no more than statements of the same names, one a transaction."""

    _active: Mapping[int, tuple[rows.Row, TaskRecord]] = {}
    """What was active when it was last asked for: each turn of a dispatcher asks, and few have changed meanwhile."""

    @abstractmethod
    def _read(self, name: str, **values: Any) -> builtins.list[rows.Row]:
        """Return the rows of a statement that changes nothing."""

    @abstractmethod
    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        """Run a statement in a transaction of its own."""

    @abstractmethod
    def _let_go(self, name: str, task: str) -> None:
        """Run a statement that removes something of a task; raises where the task is not there or must stay."""

    def _pack(self, drafts: Sequence[Draft]) -> tuple[builtins.list[bytes], dict[bytes, bytes]]:
        """Return the hash of each draft's list of files, and by hash the lists, compressed, that are not kept yet.

        It may take long for many files, so it is done before the others have to wait.
        """
        digests: builtins.list[bytes] = []
        fresh: dict[bytes, bytes] = {}
        seen: set[bytes] = set()
        # Tasks that are alike have one list among them, which need not be packed again to see that.
        packed: dict[int, bytes] = {}
        for draft in drafts:
            inputs = draft.spec.inputs
            digest = packed.get(id(inputs))
            if digest is None:
                text = rows.pack_inputs(draft.spec.files)
                digest = packed[id(inputs)] = hashlib.sha256(text).digest()
                if digest not in seen and not self._read("has_inputs", sha256=digest):
                    fresh[digest] = rows.compress(text)
                seen.add(digest)
            digests.append(digest)
        return digests, fresh

    def get_sweep(self, sweep: str) -> SweepRecord:
        """See Store."""
        found = self._read("find_sweep", id=sweep)
        if not found:
            raise NotFound(f"There is no sweep {sweep!r}.")
        return rows.sweep_of_row(found[0])

    def list_sweeps(self, query: SweepQuery) -> builtins.list[SweepRecord]:
        """See Store."""
        before = None if query.before is None else rows.integer(query.before)
        found = self._read("list_sweeps", user=query.user, key=query.key, before=before, limit=limit_of(query.limit))
        return [rows.sweep_of_row(row) for row in found]

    def get(self, task: str) -> TaskRecord:
        """See Store."""
        return rows.record_of(self._read_one("find_by_id", task))

    def inputs(self, task: str) -> tuple[InputFile, ...]:
        """See Store."""
        return rows.inputs_of(self._read_one("read_inputs", task))

    def queued(self) -> dict[str, int]:
        """See Store."""
        return {str(group): int(count) for group, count in self._read("queued")}

    def position(self, task: str) -> int | None:
        """See Store."""
        *where, seq, priority, status, held = self._read_one("place", task)
        if status != Status.QUEUED or held:
            return None
        lane = Lane(*where)
        found = self._read("waiting", seq=seq, priority=priority, **lane._asdict())
        return position([Waiting(*row) for row in found], lane)

    def next_ready(self, now: datetime) -> datetime | None:
        """See Store."""
        first = self._read("next_ready", now=rows.micros(now))[0][0]
        return None if first is None else rows.moment_of(first)

    def overdue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        return [rows.record_of(row) for row in self._read("overdue", now=rows.micros(now), limit=limit_of(limit))]

    def active(self) -> builtins.list[TaskRecord]:
        """See Store."""
        found: dict[int, tuple[rows.Row, TaskRecord]] = {}
        # Sorted here: SQLite would copy every body for it.
        for row in sorted(self._read("active"), key=itemgetter(0)):
            known = self._active.get(row[0])
            found[row[0]] = known if known is not None and known[0] == row else (row, rows.record_of(row))
        self._active = found
        return [record for _, record in found.values()]

    def ended(
        self,
        before: datetime,
        limit: int,
        after: TaskRecord | None = None,
        *,
        project: str | None = None,
        with_outputs: bool = False,
    ) -> builtins.list[TaskRecord]:
        """See Store."""
        at = None if after is None else rows.optional_micros(after.task.ended_at)
        cursor = {"at": 0 if at is None else at, "seq": 0 if after is None else after.seq, "project": project}
        name = "ended_with_outputs" if with_outputs else "ended"
        found = self._read(name, before=rows.micros(before), limit=limit_of(limit), **cursor)
        return [rows.record_of(row) for row in found]

    def rules(self, now: datetime) -> Rules:
        """See Store."""
        quotas = self._read("list_quotas")
        # Seldom are storage and costs limited, and only then are they looked at.
        stored = self.stored() if any(storage is not None for *_, storage, _, _ in quotas) else {}
        spent = self.spent(now) if any(month is not None for *_, month in quotas) else {}
        return rows.rules_of(self._read("list_pauses"), quotas, stored, spent)

    def stored(self, user: str | None = None) -> dict[Account, int]:
        """See Store."""
        return rows.stored_of(self._read("stored", user=user or ""))

    def spent(self, now: datetime, user: str | None = None) -> dict[Account, float]:
        """See Store."""
        return rows.spent_of(self._read("spent", month=month_of(now), user=user or ""))

    def retention(self) -> builtins.list[Retention]:
        """See Store."""
        return [rows.retention_of_row(row) for row in self._read("list_retention")]

    def set_retention(self, rule: Retention) -> None:
        """See Store."""
        self._write("drop_retention" if rule.is_empty else "set_retention", rows.retention_columns(rule))

    def group_records(self) -> builtins.list[GroupRecord]:
        """See Store."""
        return [GroupRecord.model_validate_json(body) for (body,) in self._read("list_groups")]

    def put_group(self, record: GroupRecord, instead_of: GroupRecord | None = None) -> None:
        """See Store."""
        columns = {
            "id": record.id,
            "name": record.spec.name,
            "created_at": rows.micros(record.created_at),
            "has_ended": record.ended_at is not None,
            "body": record.model_dump_json(),
        }
        if instead_of is None:
            self._write("add_group", columns)
        else:
            self._write("change_group", columns | {"before": instead_of.model_dump_json()})
        # Both do nothing where they may not.
        if record not in self.group_records():
            raise changed_meanwhile(record)

    def forget_group(self, group: str) -> None:
        """See Store."""
        self._write("drop_group", {"id": group})

    def pause(self, pause: Pause) -> None:
        """See Store."""
        self._write("add_pause", rows.pause_columns(pause))

    def resume(self, pause: Pause) -> None:
        """See Store."""
        self._write("drop_pause", rows.pause_columns(pause))

    def set_quota(self, quota: Quota) -> None:
        """See Store."""
        self._write("drop_quota" if quota.is_empty else "set_quota", rows.quota_columns(quota))

    def runs(self, simulator: str, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        return [rows.record_of(row) for row in self._read("runs", simulator=simulator, limit=limit_of(limit))]

    def withdraw(self, task: str) -> None:
        """See Store."""
        self._let_go("withdraw", task)

    def forget(self, task: str) -> None:
        """See Store."""
        self._let_go("forget", task)

    def counts(self, *, sweep: str | None = None) -> dict[Status, int]:
        """See Store."""
        found = self._read("counts") if sweep is None else self._read("counts_of_sweep", sweep=sweep)
        return dict.fromkeys(Status, 0) | {Status(status): count for status, count in found}

    def keep_rentals(self, rentals: Sequence[Rental]) -> None:
        """See Store."""
        if rentals:
            self._write("keep_rentals", {"rentals": rows.pack_rentals(rentals)})

    def rentals(self, query: RentalQuery) -> builtins.list[Rental]:
        """See Store."""
        limit = rows.LARGEST if query.limit is None else limit_of(query.limit)
        since = rows.optional_micros(query.since)
        found = self._read("list_rentals", group=query.group, ended=query.ended, since=since, limit=limit)
        return [rows.rental_of_row(row) for row in found]

    def forget_rentals(self, before: datetime) -> None:
        """See Store."""
        self._write("forget_rentals", {"before": rows.micros(before)})

    def find_key(self, hashed: str) -> StoredKey | None:
        """See Store."""
        found = self._read("find_key", hash=hashed)
        return rows.key_of(found[0]) if found else None

    def list_keys(self) -> builtins.list[StoredKey]:
        """See Store."""
        return [rows.key_of(row) for row in self._read("list_keys")]

    def _read_one(self, name: str, task: str) -> rows.Row:
        found = self._read(name, id=task)
        if not found:
            raise NotFound(f"There is no task {task!r}.")
        return found[0]


def limit_of(limit: int) -> int:
    """Return a limit that a database takes as one: SQLite takes a negative one as none, PostgreSQL refuses it."""
    return rows.integer(max(limit, 0))
