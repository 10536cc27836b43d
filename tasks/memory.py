"""A store in memory: for tests, and for trying things out without a disk."""

from __future__ import annotations

import builtins
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from datetime import datetime

from simyard.errors import Conflict, NotFound
from simyard.event import Event
from simyard.files import InputFile
from simyard.status import Status
from tasks.admission import Origin, conflict_of, none_accepted
from tasks.errors import Refused, StoreUnavailable
from tasks.history import MAX_EVENTS, MAX_REFUSALS, event_of, refusal_of
from tasks.keys import StoredKey
from tasks.lifecycle import Happened, new_record, step
from tasks.record import Draft, Submission, TaskQuery, TaskRecord
from tasks.stimulus import Stimulus


class MemoryStore:
    """A Store that forgets everything when the process ends; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._records: dict[str, TaskRecord] = {}
        self._inputs: dict[str, tuple[InputFile, ...]] = {}
        self._origins: dict[str, Origin] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._events: dict[int, Event] = {}
        self._own: defaultdict[str, deque[int]] = defaultdict(deque)
        self._next_event = 1
        self._next_seq = 1
        self._refusals: Counter[str] = Counter()
        self._keys: dict[str, StoredKey] = {}
        self._closed = False

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """See Store."""
        with self._lock:
            self._check_open()
            first_seq, first_event, made = self._next_seq, self._next_event, builtins.list[str]()
            try:
                answers = [self._submit(draft, now, made) for draft in drafts]
            except BaseException:
                self._forget(made, first_seq, first_event)
                raise
            if atomic and any(answer.error for answer in answers):
                self._forget(made, first_seq, first_event)
                return none_accepted(answers)
            return answers

    def _submit(self, draft: Draft, now: datetime, made: builtins.list[str]) -> Submission:
        known = self._by_key.get((draft.user, draft.key)) if draft.key is not None else None
        known = known or (draft.id if draft.id in self._records else None)
        if known is not None:
            error = conflict_of(draft, self._origins[known])
            return Submission(error=error) if error else Submission(record=self._records[known])
        first = new_record(draft, self._next_seq, now)
        made.append(draft.id)
        self._next_seq += 1
        self._records[draft.id] = first.record
        self._inputs[draft.id] = draft.spec.inputs
        self._origins[draft.id] = Origin(task=draft.id, user=draft.user, key=draft.key, digest=draft.digest)
        if draft.key is not None:
            self._by_key[draft.user, draft.key] = draft.id
        self._note(draft.id, first.events, now)
        return Submission(record=first.record, created=True)

    def _forget(self, made: builtins.list[str], seq: int, event: int) -> None:
        for task in made:
            origin = self._origins.pop(task)
            if origin.key is not None:
                del self._by_key[origin.user, origin.key]
            del self._records[task], self._inputs[task], self._own[task]
        for number in range(event, self._next_event):
            del self._events[number]
        self._next_seq, self._next_event = seq, event

    def get(self, task: str) -> TaskRecord:
        """See Store."""
        with self._lock:
            self._check_open()
            if task not in self._records:
                raise NotFound(f"There is no task {task!r}.")
            return self._records[task]

    def inputs(self, task: str) -> tuple[InputFile, ...]:
        """See Store."""
        with self._lock:
            self.get(task)
            return self._inputs[task]

    def list(self, query: TaskQuery) -> builtins.list[TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            found = [record for record in reversed(self._records.values()) if _fits(record, query)]
        return found[: max(query.limit, 0)]

    def queue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        ready = [record for record in self._queued() if record.ready_at <= now]
        return sorted(ready, key=_place)[: max(limit, 0)]

    def position(self, task: str) -> int | None:
        """See Store."""
        with self._lock:
            record = self.get(task)
            if record.status is not Status.QUEUED:
                return None
            return sum(_place(other) < _place(record) for other in self._queued())

    def next_ready(self, now: datetime) -> datetime | None:
        """See Store."""
        return min((record.ready_at for record in self._queued() if record.ready_at > now), default=None)

    def overdue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        late = [(until, r.seq, r) for r in self._queued() if (until := r.queue_until) is not None and until <= now]
        return [record for _, _, record in sorted(late)[: max(limit, 0)]]

    def active(self) -> builtins.list[TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            return [record for record in self._records.values() if record.status.is_active]

    def apply(self, task: str, stimulus: Stimulus, now: datetime) -> TaskRecord:
        """See Store."""
        with self._lock:
            record = self.get(task)
            try:
                after = step(record, stimulus, now)
            except Refused as refused:
                if self._refusals[task] < MAX_REFUSALS:
                    self._refusals[task] += 1
                    self._note(task, (refusal_of(record, stimulus, refused),), now)
                raise
            self._records[task] = after.record
            self._note(task, after.events, now)
            return after.record

    def events(self, *, task: str | None = None, after: int = 0, limit: int = 1000) -> builtins.list[Event]:
        """See Store."""
        with self._lock:
            self._check_open()
            numbers = self._events if task is None else self._own.get(task, ())
            return [self._events[number] for number in numbers if number > after][: max(limit, 0)]

    def latest(self) -> int:
        """See Store."""
        with self._lock:
            self._check_open()
            return max(self._events, default=0)

    def counts(self) -> dict[Status, int]:
        """See Store."""
        with self._lock:
            self._check_open()
            return dict.fromkeys(Status, 0) | Counter(record.status for record in self._records.values())

    def add_key(self, key: StoredKey) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            if any(key.id == known.id or key.hash == known.hash for known in self._keys.values()):
                raise Conflict("There is such a key already.")
            self._keys[key.hash] = key

    def find_key(self, hashed: str) -> StoredKey | None:
        """See Store."""
        with self._lock:
            self._check_open()
            return self._keys.get(hashed)

    def list_keys(self) -> builtins.list[StoredKey]:
        """See Store."""
        with self._lock:
            self._check_open()
            return sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))

    def revoke_key(self, key: str) -> None:
        """See Store."""
        with self._lock:
            found = next((k for k in self.list_keys() if k.id == key), None)
            if found is None:
                raise NotFound(f"There is no key {key!r}.")
            del self._keys[found.hash]

    def close(self) -> None:
        """See Store."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed.")

    def _queued(self) -> builtins.list[TaskRecord]:
        with self._lock:
            self._check_open()
            return [record for record in self._records.values() if record.status is Status.QUEUED]

    def _note(self, task: str, events: tuple[Happened, ...], now: datetime) -> None:
        for happened in events:
            self._events[self._next_event] = event_of(self._next_event, task, happened, now)
            self._own[task].append(self._next_event)
            self._next_event += 1
            if len(self._own[task]) > MAX_EVENTS:
                del self._events[self._own[task].popleft()]


def _place(record: TaskRecord) -> tuple[int, int]:
    return (-record.task.priority, record.seq)


def _fits(record: TaskRecord, query: TaskQuery) -> bool:
    task = record.task
    asked = (
        (query.status, task.status),
        (query.simulator, task.simulator),
        (query.project, task.project),
        (query.name, task.name),
        (query.group, task.group),
        (query.user, record.user),
    )
    return all(want is None or want == has for want, has in asked) and (
        query.before is None or record.seq < query.before
    )
