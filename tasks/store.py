"""The durable store of tasks, as the rest of Simyard sees it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from cluster.group_record import GroupRecord
from cluster.ledger import Rental
from simyard.dependency import Dependency
from simyard.errors import InvalidInput
from simyard.event import Event
from simyard.files import InputFile
from simyard.status import Status
from tasks.errors import Deposed, Refused, StoreTooNew, StoreUnavailable
from tasks.keys import StoredKey
from tasks.ledger import RentalQuery
from tasks.memory import MemoryStore
from tasks.record import (
    Draft,
    Lane,
    Submission,
    SweepDraft,
    SweepQuery,
    SweepRecord,
    SweepSubmission,
    TaskQuery,
    TaskRecord,
)
from tasks.retention import Retention
from tasks.rules import Account, Pause, Quota, Rules
from tasks.sqlite.store import SqliteStore
from tasks.stimulus import Stimulus

__all__ = [
    "Contested",
    "Deposed",
    "Draft",
    "MemoryStore",
    "Refused",
    "Rental",
    "RentalQuery",
    "SqliteStore",
    "Store",
    "StoreTooNew",
    "StoreUnavailable",
    "Submission",
    "SweepDraft",
    "SweepQuery",
    "SweepRecord",
    "SweepSubmission",
    "TaskQuery",
    "TaskRecord",
    "open_store",
]


class Store(Protocol):
    """Keeps every task and what happened to it; what a call has returned from is on disk.

    Safe to use from several threads and, where it is not in memory, from several processes. Every call raises
    StoreUnavailable when the store cannot be read or written at present; then nothing of it was kept.
    """

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """Return one answer for each draft, in their order.

        A draft with the user, key and digest of an earlier one gives the earlier record with `created` False; without a
        key, the id stands for it. The same key or id with another digest gives a Conflict as the answer's error, and
        one that waits for itself, or for a task that is not there or another user's, InvalidInput. With `atomic`, one
        such error keeps the whole batch out. Drafts may name each other by their keys, in any order.
        """
        ...

    def submit_sweep(self, sweep: SweepDraft, drafts: Sequence[Draft], now: datetime) -> SweepSubmission:
        """Return the sweep once it and all its tasks are stored, in one step; the drafts are its cases in their order.

        A sweep with the user, key and digest of an earlier one gives the earlier one with `created` False, whatever the
        drafts are; without a key, the id stands for it.

        Raises:
            Conflict: the same key or id came with another digest, or a draft is in conflict; nothing was stored.
        """
        ...

    def named(self, user: str, references: Sequence[Dependency]) -> dict[tuple[str | None, str | None], TaskRecord]:
        """Return those tasks of a user that references name, each by its id and idempotency key as they name it."""
        ...

    def settle(self, now: datetime, limit: int) -> int:
        """Tell up to `limit` times a task that one it waits for has ended, and return how often that was done.

        Who waits for no other task any more is queued. Who ends since a task has failed is itself told of, and so on.
        That a task has ended, and that others are still to be told of it, is stored in one step: what a crash has
        interrupted, the next call does. Cheap enough to ask at every turn.
        """
        ...

    def get_sweep(self, sweep: str) -> SweepRecord:
        """Return a sweep; raises NotFound."""
        ...

    def list_sweeps(self, query: SweepQuery) -> builtins.list[SweepRecord]:
        """Return the sweeps that the query asks for, newest first."""
        ...

    def get(self, task: str) -> TaskRecord:
        """Return a task; raises NotFound."""
        ...

    def inputs(self, task: str) -> tuple[InputFile, ...]:
        """Return a task's input files; raises NotFound."""
        ...

    def list(self, query: TaskQuery) -> builtins.list[TaskRecord]:
        """Return the tasks that the query asks for, newest first."""
        ...

    def queue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """Return queued tasks that are ready and not held: by priority, highest first, then by age.

        Of each lane (a user's project in a machine group) it has the first ones, about `limit` together and at least
        one, so that a long lane hides no other. It costs the same however many tasks wait in a lane.
        """
        ...

    def queued(self) -> dict[str, int]:
        """Return how many tasks are queued for each machine group and not held; those that are not ready count, too."""
        ...

    def position(self, task: str) -> int | None:
        """Return about how many queued tasks start before a queued task; raises NotFound.

        None for one that is not queued, or held. It is exact where no other user and no other project waits.
        """
        ...

    def next_ready(self, now: datetime) -> datetime | None:
        """Return when the next queued task becomes ready that is not ready now; None when there is none."""
        ...

    def overdue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """Return queued tasks that have waited longer than their queue limit, the longest overdue first.

        Cheap enough to ask at every turn, however long the queue is.
        """
        ...

    def active(self) -> builtins.list[TaskRecord]:
        """Return the tasks whose attempt holds a machine, oldest first."""
        ...

    def ended(
        self,
        before: datetime,
        limit: int,
        after: TaskRecord | None = None,
        *,
        project: str | None = None,
        with_outputs: bool = False,
    ) -> builtins.list[TaskRecord]:
        """Return the tasks that ended before a moment, the oldest end first; `after` is the last of the page before.

        Those that a task which has not ended waits for, or takes outputs of, are left out; `project` leaves out those
        of other projects, and `with_outputs` those that have nothing in the storage.
        """
        ...

    def stored(self, user: str | None = None) -> dict[Account, int]:
        """Return the bytes of outputs in the storage of all users, or of one, and of each of their projects."""
        ...

    def spent(self, now: datetime, user: str | None = None) -> dict[Account, float]:
        """Return the US dollars of all users, or of one, and of each of their projects, in the month of `now` in UTC.

        Attempts count to the month in which they end, with all that they cost, also when their task is forgotten.
        """
        ...

    def retention(self) -> builtins.list[Retention]:
        """Return the rules of how long what has ended is kept, that for all projects first."""
        ...

    def set_retention(self, rule: Retention) -> None:
        """Keep a rule instead of the one that its project had; one that lets nothing go is forgotten."""
        ...

    def lanes(self) -> builtins.list[Lane]:
        """Return the lanes in which tasks are queued that are not held."""
        ...

    def rules(self, now: datetime) -> Rules:
        """Return all pauses and quotas, and where a quota limits it, what is stored and spent in the month of `now`.

        It is cheap enough for every turn.
        """
        ...

    def pause(self, pause: Pause) -> None:
        """Keep what the pause covers from starting; doing so again changes nothing."""
        ...

    def resume(self, pause: Pause) -> None:
        """Forget exactly this pause, where it is."""
        ...

    def set_quota(self, quota: Quota) -> None:
        """Keep a quota instead of the one that its account had; one that limits nothing is forgotten."""
        ...

    def group_records(self) -> builtins.list[GroupRecord]:
        """Return the machine groups that were made by a command, oldest first; those that have ended stay a while."""
        ...

    def put_group(self, record: GroupRecord, instead_of: GroupRecord | None = None) -> None:
        """Keep a group, a new one or `instead_of` what it was.

        Raises:
            Conflict: it is not any more what it was, or another one that has not ended has its name.
        """
        ...

    def forget_group(self, group: str) -> None:
        """Forget the group with that id, where it is."""
        ...

    def runs(self, simulator: str, limit: int) -> builtins.list[TaskRecord]:
        """Return the newest computed successes of a simulator, newest first, among the last 500 tasks that ended."""
        ...

    def earlier_results(self, tasks: Sequence[str]) -> dict[str, TaskRecord]:
        """Return, for those of the tasks that have one, the newest computed task with their result, by their ids.

        That is a task of the same user with the same fingerprint that has succeeded and was not withdrawn.
        """
        ...

    def withdraw(self, task: str) -> None:
        """Let no later task have an ended task's result any more, as its outputs are about to be removed.

        Raises:
            NotFound: there is no such task.
            Conflict: it has not ended, or a later task has its result.
        """
        ...

    def forget(self, task: str) -> None:
        """Forget an ended task with its events and its idempotency key.

        Raises:
            NotFound: there is no such task.
            Conflict: it has not ended, a later task has its result, or a task that has not ended needs it.
        """
        ...

    def apply(
        self, task: str, stimulus: Stimulus, now: datetime, *, earlier: Sequence[tuple[Stimulus, datetime]] = ()
    ) -> TaskRecord:
        """Return the record that the stimulus makes of a task, once it and its events are stored.

        Those that came `earlier`, each with its moment, go in before it and in the same step. That one of them does not
        fit is kept as an event, and the rest goes on.

        Raises:
            NotFound: there is no such task.
            Refused: the stimulus does not fit, or names a result that has been withdrawn; that it came is kept as an
                event, within bounds.
        """
        ...

    def events(
        self, *, task: str | None = None, sweep: str | None = None, after: int = 0, limit: int = 1000
    ) -> builtins.list[Event]:
        """Return the events of one task, of a sweep's tasks or of all whose `seq` is larger than `after`, oldest first.

        At most one of `task` and `sweep` is given.
        """
        ...

    def latest(self) -> int:
        """Return the `seq` of the newest event of all, 0 where there is none; cheap enough to ask often."""
        ...

    def wait(self, after: int, seconds: float) -> int:
        """Return `latest()` as soon as it is larger than `after`, or after so many seconds."""
        ...

    def counts(self, *, sweep: str | None = None) -> dict[Status, int]:
        """Return how many tasks, of one sweep or of all, stand in each status; every status is there."""
        ...

    def keep_rentals(self, rentals: Sequence[Rental]) -> None:
        """Keep machines of the ledger instead of what was there of them."""
        ...

    def rentals(self, query: RentalQuery) -> builtins.list[Rental]:
        """Return the machines of the ledger that the query asks for, those launched last first."""
        ...

    def forget_rentals(self, before: datetime) -> None:
        """Forget the machines of the ledger that ended before a moment, and those that were last seen before it."""
        ...

    def add_key(self, key: StoredKey) -> None:
        """Keep an API key; raises Conflict when its id or hash is there already."""
        ...

    def find_key(self, hashed: str) -> StoredKey | None:
        """Return the key with that hash, also an expired one; None when it is unknown or was revoked."""
        ...

    def list_keys(self) -> builtins.list[StoredKey]:
        """Return all keys, oldest first."""
        ...

    def revoke_key(self, key: str) -> None:
        """Forget the key with that id; raises NotFound."""
        ...

    def close(self) -> None:
        """Let go of the file or the database; every later call raises StoreUnavailable."""
        ...


@runtime_checkable
class Contested(Protocol):
    """A store that servers on several machines share, so that one dispatcher of all must lead."""

    def lead(self, server: str, seconds: float) -> int | None:
        """Take the lead for so many seconds or go on with it, and return its term; None where another server leads.

        It is free when it was never taken, when its time has run out, or when the same server held it, whose
        dispatcher has died; `server` must be unique. A term is never 0, and another one than before says that somebody
        else may have led meanwhile. Once this has given a term, `apply` raises Deposed for what a dispatcher decides
        (Dispatch, Lost, Undelivered, Wait) as soon as another one has taken over, and until this gives a term again.
        What attempts and users send goes in as ever: the attempt's number guards it.
        """
        ...


def open_store(where: str | Path) -> Store:
    """Return the store that a path or a URL names: `sqlite:///path`, `file:///path`, `postgresql://…` or `memory:`.

    Raises:
        InvalidInput: the URL names a kind of store that there is not.
        StoreTooNew: a newer version of Simyard has written the database.
        StoreUnavailable: the file or database cannot be opened, or is something else.
    """
    if isinstance(where, Path):
        return SqliteStore(where)
    url = urlsplit(where)
    match url.scheme:
        case "":
            return SqliteStore(Path(where))
        case "sqlite" | "file" if not url.netloc and url.path:
            return SqliteStore(Path(unquote(url.path)))
        case "postgresql":
            # Late, so that a process pays for its driver only where it is used.
            from tasks.postgres.store import PostgresStore

            return PostgresStore(where)
        case "memory":
            return MemoryStore()
        case _:
            raise InvalidInput(
                f"{url.scheme}:{'//' if url.netloc else ''}… is no store of tasks.",
                field="store",
                fix="Give the path of a file on a local disk, sqlite:///path, or postgresql://host/database.",
            )
