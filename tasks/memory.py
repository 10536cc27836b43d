"""A store in memory: for tests, and for trying things out without a disk."""

from __future__ import annotations

import builtins
import threading
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from cluster.group_record import GroupRecord, changed_meanwhile
from cluster.ledger import Rental
from simyard.dependency import Dependency
from simyard.errors import Conflict, InvalidInput, NotFound
from simyard.event import Event
from simyard.files import InputFile
from simyard.status import Status
from tasks.admission import Origin, case_conflict_of, conflict_of, none_accepted, sweep_conflict_of
from tasks.dependencies import Tie, begun, edges_of, in_order, resolved, tie_of
from tasks.errors import Refused, StoreUnavailable, not_removable, withdrawn
from tasks.graph import Graph
from tasks.history import MAX_EVENTS, MAX_REFUSALS, event_of, refusal_of
from tasks.keys import StoredKey
from tasks.lanes import Waiting, merged, position, share
from tasks.ledger import RentalQuery
from tasks.lifecycle import Happened, new_record, step
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
    month_of,
)
from tasks.retention import Retention
from tasks.rows import spent_of, stored_of
from tasks.rules import Account, Pause, Quota, Rules
from tasks.stimulus import Release, Reused, Settled, Stimulus

_LOOKED_AT = 500
"""Among so many of the last tasks that ended, runs are looked for."""


class MemoryStore:
    """A Store that forgets everything when the process ends; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._records: dict[str, TaskRecord] = {}
        # What the dispatcher asks for in every turn must not cost more for every task that has ended.
        self._queued: dict[str, TaskRecord] = {}
        self._active: dict[str, TaskRecord] = {}
        self._inputs: dict[str, tuple[InputFile, ...]] = {}
        self._origins: dict[str, Origin] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._fingerprints: dict[str, str] = {}
        self._results: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self._graph = Graph()
        self._sweeps: dict[str, SweepRecord] = {}
        self._events: dict[int, tuple[str, Happened, datetime, str | None]] = {}
        self._own: defaultdict[str, deque[int]] = defaultdict(deque)
        self._next_event = 1
        self._next_seq = 1
        self._refusals: Counter[str] = Counter()
        self._keys: dict[str, StoredKey] = {}
        self._pauses: set[Pause] = set()
        self._quotas: dict[Account, Quota] = {}
        self._spent: Counter[tuple[str, str, str]] = Counter()
        """Millionths of a US dollar by month, user and project."""
        self._rentals: dict[str, Rental] = {}
        self._retention: dict[str | None, Retention] = {}
        self._groups: dict[str, GroupRecord] = {}
        self._closed = False

    def submit(self, drafts: Sequence[Draft], now: datetime, *, atomic: bool = False) -> builtins.list[Submission]:
        """See Store."""
        with self._lock:
            self._check_open()
            first_seq, first_event, made = self._next_seq, self._next_event, builtins.list[str]()
            try:
                answers = self._submit_all(drafts, now, made)
            except BaseException:
                self._forget(made, first_seq, first_event)
                raise
            if atomic and any(answer.error for answer in answers):
                self._forget(made, first_seq, first_event)
                return none_accepted(answers)
            return answers

    def _submit_all(
        self, drafts: Sequence[Draft], now: datetime, made: builtins.list[str]
    ) -> builtins.list[Submission]:
        order, circles = in_order(drafts)
        answers = {place: Submission(error=error) for place, error in circles.items()}
        for place in order:
            answers[place] = self._submit(drafts[place], now, made)
        return [answers[place] for place in range(len(drafts))]

    def _submit(self, draft: Draft, now: datetime, made: builtins.list[str]) -> Submission:
        known = self._by_key.get((draft.user, draft.key)) if draft.key is not None else None
        known = known or (draft.id if draft.id in self._records else None)
        if known is not None:
            error = conflict_of(draft, self._origins[known])
            return Submission(error=error) if error else Submission.of(self._records[known])
        try:
            draft = resolved(draft, lambda one: self._named(draft.user, one))
        except InvalidInput as error:
            return Submission(error=error)
        edges = edges_of(draft, self._status_of)
        first = begun(new_record(draft, self._next_seq, now), edges, self._status_of, now)
        made.append(draft.id)
        self._next_seq += 1
        if draft.fingerprint is not None:
            self._fingerprints[draft.id] = draft.fingerprint
        self._keep(first.record)
        self._graph.add(draft.id, edges)
        self._inputs[draft.id] = draft.spec.files
        self._origins[draft.id] = Origin(task=draft.id, user=draft.user, key=draft.key, digest=draft.digest)
        if draft.key is not None:
            self._by_key[draft.user, draft.key] = draft.id
        self._note(draft.id, first.events, now)
        return Submission.of(first.record, created=True)

    def _named(self, user: str, one: Dependency) -> tuple[str, str] | None:
        task = one.task if one.key is None else self._by_key.get((user, one.key))
        record = self._records.get(task or "")
        return None if record is None else (record.id, record.user)

    def _status_of(self, task: str) -> Status:
        return self._records[task].status

    def named(self, user: str, references: Sequence[Dependency]) -> dict[tuple[str | None, str | None], TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            found = {one.named: self._named(user, one) for one in references}
            return {name: self._records[one[0]] for name, one in found.items() if one is not None and one[1] == user}

    def settle(self, now: datetime, limit: int) -> int:
        """See Store."""
        told = 0
        with self._lock:
            self._check_open()
            while told < limit and (found := self._graph.unsettled()) is not None:
                parent, child, edge = found
                status = self._records[parent].status
                tie = tie_of(status, needs_success=edge.needs_success)
                self._graph.tie(child, parent, tie)
                settled = Settled(parent, status, tie is Tie.MET, self._graph.is_free(child))
                self._step(self._records[child], settled, now)
                told += 1
        return told

    def _is_needed(self, task: str) -> bool:
        return any(not self._records[child].status.is_end for child in self._graph.children(task))

    def _forget(self, made: builtins.list[str], seq: int, event: int) -> None:
        for task in made:
            origin = self._origins.pop(task)
            if origin.key is not None:
                del self._by_key[origin.user, origin.key]
            del self._records[task], self._inputs[task], self._own[task]
            self._queued.pop(task, None)
            self._graph.forget(task)
            self._fingerprints.pop(task, None)
        for number in range(event, self._next_event):
            del self._events[number]
        self._next_seq, self._next_event = seq, event

    def submit_sweep(self, sweep: SweepDraft, drafts: Sequence[Draft], now: datetime) -> SweepSubmission:
        """See Store."""
        with self._lock:
            self._check_open()
            known = self._known_sweep(sweep)
            if known is not None:
                if error := sweep_conflict_of(sweep, known):
                    raise error
                return SweepSubmission(record=known, created=False)
            first_seq, first_event, made = self._next_seq, self._next_event, builtins.list[str]()
            try:
                conflicts = map(case_conflict_of, self._submit_all(drafts, now, made))
                refused = next((conflict for conflict in conflicts if conflict), None)
            except BaseException:
                self._forget(made, first_seq, first_event)
                raise
            if refused is not None:
                self._forget(made, first_seq, first_event)
                raise refused
            record = SweepRecord(draft=sweep, seq=len(self._sweeps) + 1, cases=len(drafts), created_at=now)
            self._sweeps[sweep.id] = record
            return SweepSubmission(record=record, created=True)

    def _known_sweep(self, sweep: SweepDraft) -> SweepRecord | None:
        if sweep.key is not None:
            for known in self.list_sweeps(SweepQuery(user=sweep.user, key=sweep.key, limit=1)):
                return known
        return self._sweeps.get(sweep.id)

    def get_sweep(self, sweep: str) -> SweepRecord:
        """See Store."""
        with self._lock:
            self._check_open()
            if sweep not in self._sweeps:
                raise NotFound(f"There is no sweep {sweep!r}.")
            return self._sweeps[sweep]

    def list_sweeps(self, query: SweepQuery) -> builtins.list[SweepRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            found = [
                record
                for record in reversed(self._sweeps.values())
                if query.user in {None, record.draft.user}
                and query.key in {None, record.draft.key}
                and (query.before is None or record.seq < query.before)
            ]
        return found[: max(query.limit, 0)]

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
        with self._lock:
            self._check_open()
            if limit <= 0:
                return []
            lanes: defaultdict[Lane, builtins.list[TaskRecord]] = defaultdict(builtins.list)
            for record in self._queued.values():
                if not record.task.held:
                    lanes[record.lane].append(record)
        each = share(limit, len(lanes))
        ready = (merged(record for record in lane if record.ready_at <= now) for lane in lanes.values())
        return merged(record for lane in ready for record in lane[:each])

    def queued(self) -> dict[str, int]:
        """See Store."""
        with self._lock:
            self._check_open()
            return dict(Counter(record.task.group for record in self._queued.values() if not record.task.held))

    def position(self, task: str) -> int | None:
        """See Store."""
        with self._lock:
            record = self.get(task)
            if record.status is not Status.QUEUED or record.task.held:
                return None
            mine, priority = record.lane, record.task.priority
            counts: dict[Lane, builtins.list[int]] = {}
            for other in self._queued.values():
                lane = other.lane
                if lane.group == mine.group and not other.task.held:
                    count = counts.setdefault(lane, [0, 0])
                    count[0] += other.task.priority > priority
                    count[1] += other.task.priority == priority and (lane != mine or other.seq < record.seq)
            return position([Waiting(lane.user, lane.project, *count) for lane, count in counts.items()], mine)

    def next_ready(self, now: datetime) -> datetime | None:
        """See Store."""
        with self._lock:
            self._check_open()
            waiting = [r.ready_at for r in self._queued.values() if r.ready_at > now and not r.task.held]
            return min(waiting, default=None)

    def overdue(self, now: datetime, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            limited = [r for r in self._queued.values() if r.task.limits.queue is not None]
        waiting = [(r.queue_until, r.seq, r) for r in limited]
        late = [(until, seq, record) for until, seq, record in waiting if until is not None and until <= now]
        return [record for _, _, record in sorted(late)[: max(limit, 0)]]

    def active(self) -> builtins.list[TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            return sorted(self._active.values(), key=_age)

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
        with self._lock:
            self._check_open()
            records = sorted((r for r in self._records.values() if r.status.is_end), key=_ended)
            start = 0 if after is None else bisect_right(records, _ended(after), key=_ended)
            found = [r for r in records[start:] if _ended(r)[0] < before and not self._is_needed(r.id)]
            found = [r for r in found if project in {None, r.task.project}]
            found = [r for r in found if r.output_bytes != 0 or not with_outputs]
        return found[: max(limit, 0)]

    def lanes(self) -> builtins.list[Lane]:
        """See Store."""
        with self._lock:
            self._check_open()
            return sorted({record.lane for record in self._queued.values() if not record.task.held})

    def rules(self, now: datetime) -> Rules:
        """See Store."""
        with self._lock:
            self._check_open()
            quotas = sorted(self._quotas.values(), key=lambda quota: (quota.user, quota.project or ""))
            stored = self.stored() if any(quota.storage is not None for quota in quotas) else {}
            spent = self.spent(now) if any(quota.usd_per_month is not None for quota in quotas) else {}
            return Rules(pauses=frozenset(self._pauses), quotas=tuple(quotas), stored=stored, spent=spent)

    def spent(self, now: datetime, user: str | None = None) -> dict[Account, float]:
        """See Store."""
        with self._lock:
            self._check_open()
            month = month_of(now)
            return spent_of(
                [(*one, cost) for (at, *one), cost in self._spent.items() if at == month and user in {None, one[0]}]
            )

    def stored(self, user: str | None = None) -> dict[Account, int]:
        """See Store."""
        with self._lock:
            self._check_open()
            found = [(r.user, r.task.project, r.output_bytes or 0) for r in self._records.values()]
        return stored_of([one for one in found if user in {None, one[0]}])

    def retention(self) -> builtins.list[Retention]:
        """See Store."""
        with self._lock:
            self._check_open()
            return sorted(self._retention.values(), key=lambda rule: rule.project or "")

    def set_retention(self, rule: Retention) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            self._retention.pop(rule.project, None)
            if not rule.is_empty:
                self._retention[rule.project] = rule

    def group_records(self) -> builtins.list[GroupRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            return sorted(self._groups.values(), key=lambda one: (one.created_at, one.id))

    def put_group(self, record: GroupRecord, instead_of: GroupRecord | None = None) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            others = [one for one in self._groups.values() if one.id != record.id and one.ended_at is None]
            is_taken = record.ended_at is None and any(one.spec.name == record.spec.name for one in others)
            if is_taken or self._groups.get(record.id) not in (instead_of, record):
                raise changed_meanwhile(record)
            self._groups[record.id] = record

    def forget_group(self, group: str) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            self._groups.pop(group, None)

    def pause(self, pause: Pause) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            self._pauses.add(pause)

    def resume(self, pause: Pause) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            self._pauses.discard(pause)

    def set_quota(self, quota: Quota) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            self._quotas.pop(quota.account, None)
            if not quota.is_empty:
                self._quotas[quota.account] = quota

    def runs(self, simulator: str, limit: int) -> builtins.list[TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            newest = sorted((r for r in self._records.values() if r.status.is_end), key=_ended)[: -_LOOKED_AT - 1 : -1]
        found = [r for r in newest if r.status is Status.SUCCEEDED and r.task.simulator == simulator]
        found = [r for r in found if r.task.reused_from is None]
        return found[: max(limit, 0)]

    def earlier_results(self, tasks: Sequence[str]) -> dict[str, TaskRecord]:
        """See Store."""
        with self._lock:
            self._check_open()
            found: dict[str, TaskRecord] = {}
            for task in tasks:
                if task in self._fingerprints and (seqs := self._results.get(self._asked(task))):
                    found[task] = self._records[max(seqs, key=seqs.__getitem__)]
            return found

    def _asked(self, task: str) -> tuple[str, str]:
        return self._records[task].user, self._fingerprints[task]

    def withdraw(self, task: str) -> None:
        """See Store."""
        with self._lock:
            is_lent = any(record.task.reused_from == task for record in self._records.values())
            if not (ended := self.get(task).status.is_end) or is_lent or self._is_needed(task):
                raise not_removable(task, ended=ended)
            if task in self._fingerprints:
                self._results[self._asked(task)].pop(task, None)
                del self._fingerprints[task]

    def forget(self, task: str) -> None:
        """See Store."""
        with self._lock:
            self.withdraw(task)
            origin = self._origins.pop(task)
            if origin.key is not None:
                del self._by_key[origin.user, origin.key]
            for number in self._own.pop(task, ()):
                del self._events[number]
            del self._records[task], self._inputs[task], self._refusals[task]
            self._graph.forget(task)

    def apply(
        self, task: str, stimulus: Stimulus, now: datetime, *, earlier: Sequence[tuple[Stimulus, datetime]] = ()
    ) -> TaskRecord:
        """See Store."""
        with self._lock:
            for one, at in earlier:
                with suppress(Refused):
                    self._step(self.get(task), one, at)
            record = self.get(task)
            if isinstance(stimulus, Release) and record.has_failed_dependency:
                self._graph.release(task)
                stimulus = Release(is_last=self._graph.is_free(task))
            return self._step(record, stimulus, now)

    def _step(self, record: TaskRecord, stimulus: Stimulus, now: datetime) -> TaskRecord:
        task = record.id
        try:
            if isinstance(stimulus, Reused) and stimulus.source not in self._fingerprints:
                raise withdrawn(stimulus.source)
            after = step(record, stimulus, now)
        except Refused as refused:
            if self._refusals[task] < MAX_REFUSALS:
                self._refusals[task] += 1
                self._note(task, (refusal_of(record, stimulus, refused),), now)
            raise
        self._keep(after.record)
        if (more := (after.record.cost or 0) - (record.cost or 0)) and (month := after.record.cost_month) is not None:
            self._spent[month, record.user, record.task.project] += more
        if after.record.cost != record.cost and (sweep := self._sweeps.get(_sweep_of(record) or "")) is not None:
            cost = (sweep.cost or 0) + (after.record.cost or 0) - (record.cost or 0)
            self._sweeps[sweep.id] = replace(sweep, cost=cost)
        self._note(task, after.events, now)
        if after.record.status.is_end and not record.status.is_end:
            self._graph.end(task)
        return after.record

    def events(
        self, *, task: str | None = None, sweep: str | None = None, after: int = 0, limit: int = 1000
    ) -> builtins.list[Event]:
        """See Store."""
        with self._lock:
            self._check_open()
            numbers = self._events if task is None else self._own.get(task, ())
            wanted = [number for number in numbers if number > after and sweep in {None, self._events[number][3]}]
            return [event_of(number, *self._events[number]) for number in wanted[: max(limit, 0)]]

    def latest(self) -> int:
        """See Store."""
        with self._lock:
            self._check_open()
            return next(reversed(self._events), 0)

    def wait(self, after: int, seconds: float) -> int:
        """See Store."""
        with self._news:
            self._news.wait_for(lambda: self.latest() > after, seconds)
            return self.latest()

    def counts(self, *, sweep: str | None = None) -> dict[Status, int]:
        """See Store."""
        with self._lock:
            self._check_open()
            found = (record for record in self._records.values() if sweep in {None, _sweep_of(record)})
            return dict.fromkeys(Status, 0) | Counter(record.status for record in found)

    def keep_rentals(self, rentals: Sequence[Rental]) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            self._rentals.update((one.id, one) for one in rentals)

    def rentals(self, query: RentalQuery) -> builtins.list[Rental]:
        """See Store."""
        with self._lock:
            self._check_open()
            found = [
                one
                for one in self._rentals.values()
                if query.group in {None, one.group}
                and query.ended in {None, one.ended_at is not None}
                and (query.since is None or one.ended_at is None or one.ended_at > query.since)
            ]
        found.sort(key=lambda one: (one.launched_at, one.id), reverse=True)
        return found if query.limit is None else found[: max(query.limit, 0)]

    def forget_rentals(self, before: datetime) -> None:
        """See Store."""
        with self._lock:
            self._check_open()
            kept = {name: one for name, one in self._rentals.items() if (one.ended_at or one.last_seen_at) >= before}
            self._rentals = kept

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
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed.")

    def _keep(self, record: TaskRecord) -> None:
        self._records[record.task.id] = record
        self._queued.pop(record.task.id, None)
        self._active.pop(record.task.id, None)
        if record.status is Status.SUCCEEDED and record.id in self._fingerprints and record.task.reused_from is None:
            self._results[self._asked(record.id)][record.id] = record.seq
        if record.status is Status.QUEUED:
            self._queued[record.task.id] = record
        elif record.status.is_active:
            self._active[record.task.id] = record

    def _note(self, task: str, events: tuple[Happened, ...], now: datetime) -> None:
        for happened in events:
            self._events[self._next_event] = (task, happened, now, _sweep_of(self._records[task]))
            self._own[task].append(self._next_event)
            self._next_event += 1
            if len(self._own[task]) > MAX_EVENTS:
                del self._events[self._own[task].popleft()]
        self._news.notify_all()


def _age(record: TaskRecord) -> int:
    return record.seq


def _ended(record: TaskRecord) -> tuple[datetime, int]:
    assert record.task.ended_at is not None
    return (record.task.ended_at, record.seq)


def _sweep_of(record: TaskRecord) -> str | None:
    return None if record.task.case is None else record.task.case.sweep


def _fits(record: TaskRecord, query: TaskQuery) -> bool:
    task = record.task
    asked = (
        (query.status, task.status),
        (query.simulator, task.simulator),
        (query.project, task.project),
        (query.name, task.name),
        (query.group, task.group),
        (query.user, record.user),
        (query.sweep, _sweep_of(record)),
        (query.reused_from, task.reused_from),
    )
    return all(want is None or want == has for want, has in asked) and (
        query.before is None or record.seq < query.before
    )
