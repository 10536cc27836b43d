"""The durable store of tasks, as the rest of Simyard sees it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from simyard.errors import InvalidInput
from simyard.event import Event
from simyard.files import InputFile
from simyard.status import Status
from tasks.errors import Refused, StoreTooNew, StoreUnavailable
from tasks.keys import StoredKey
from tasks.memory import MemoryStore
from tasks.record import Draft, Submission, TaskQuery, TaskRecord
from tasks.sqlite.store import SqliteStore
from tasks.stimulus import Stimulus

__all__ = [
    "Draft",
    "MemoryStore",
    "Refused",
    "SqliteStore",
    "Store",
    "StoreTooNew",
    "StoreUnavailable",
    "Submission",
    "TaskQuery",
    "TaskRecord",
    "open_store",
]


class Store(Protocol):
    """Keeps every task and what happened to it; what a call has returned from is on disk.

    Safe to use from several threads and, where it has a file, from several processes. Every call raises
    StoreUnavailable when the store cannot be read or written at present; then nothing of it was kept.
    """

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """Return one answer for each draft, in their order.

        A draft with the user, key and digest of an earlier one gives the earlier record with `created` False; without a
        key, the id stands for it. The same key or id with another digest gives a Conflict as the answer's error. With
        `atomic`, one such conflict keeps the whole batch out.
        """
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
        """Return the queued tasks that are ready: by priority, highest first, then by age."""
        ...

    def position(self, task: str) -> int | None:
        """Return how many queued tasks come before a queued task, None for one that is not queued; raises NotFound."""
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

    def apply(self, task: str, stimulus: Stimulus, now: datetime) -> TaskRecord:
        """Return the record that the stimulus makes of a task, once it and its events are stored.

        Raises:
            NotFound: there is no such task.
            Refused: the stimulus does not fit; that it came is kept as an event, within bounds.
        """
        ...

    def events(self, *, task: str | None = None, after: int = 0, limit: int = 1000) -> builtins.list[Event]:
        """Return the events of one task or of all whose `seq` is larger than `after`, oldest first."""
        ...

    def latest(self) -> int:
        """Return the `seq` of the newest event of all, 0 where there is none; cheap enough to ask often."""
        ...

    def counts(self) -> dict[Status, int]:
        """Return how many tasks stand in each status; every status is there."""
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
        """Let go of the file; every later call raises StoreUnavailable."""
        ...


def open_store(where: str | Path) -> Store:
    """Return the store at a path, a `sqlite:///path` or `file:///path` URL, or a new one in memory for `memory:`.

    Raises:
        InvalidInput: the URL names a kind of store that there is not.
        StoreTooNew: a newer version of Simyard has written the database.
        StoreUnavailable: the file cannot be opened, or is something else.
    """
    if isinstance(where, Path):
        return SqliteStore(where)
    url = urlsplit(where)
    match url.scheme:
        case "":
            return SqliteStore(Path(where))
        case "sqlite" | "file" if not url.netloc and url.path:
            return SqliteStore(Path(unquote(url.path)))
        case "memory":
            return MemoryStore()
        case _:
            raise InvalidInput(
                f"{url.scheme}:{'//' if url.netloc else ''}… is no store of tasks.",
                field="store",
                fix="Give the path of a file on a local disk, or sqlite:///path.",
            )
