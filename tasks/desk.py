"""The dispatcher's core: what it knows and what it decides, with no Ray, no thread, no network and no clock of its own.

Everything outside stands behind a Protocol: the store, the storage, the Simulator actors and the clock. So all of it
can be driven through years of crashes in a minute, see `tests/simulation`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from simulators.outcome import Outcome
from simulators.work import Work
from simyard.errors import NotFound, SimyardError
from simyard.group import Machine, MachineGroup
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from storage.objects import ObjectStore
from tasks.errors import Refused
from tasks.holders import Broken, Gone, Holders, HolderState, Left, Unreachable, Verdict
from tasks.lifecycle import Dispatch, End, Progress, Renew, Stimulus, Undelivered
from tasks.placement import Candidate, Holder, Host, Kind, Retire, Reuse, Start, plan
from tasks.record import TaskRecord
from tasks.recovery import settle
from tasks.store import Store

log = logging.getLogger(__name__)

START_GRACE = 60.0
"""Seconds that a lease is longer while the attempt's actor may still have to start."""
LOOK_AHEAD = 1000
"""How many queued tasks one turn considers."""
_HOSTS_EVERY = 2.0
_CANCEL_EVERY = 2.0
_ATTENTIVE = 5.0
"""Seconds between two turns up to which nobody's report can have waited for this process."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Where the time comes from."""

    now: Callable[[], datetime]
    """The time of day; somebody may set it forwards and back."""
    monotonic: Callable[[], float]
    """Seconds that only ever grow."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A Simulator actor that this dispatcher knows."""

    holder: Holder
    carries: tuple[str, int] | None


class Desk:
    """Brings queued tasks to Simulator actors and takes their reports; safe to call from several threads.

    `recover` comes first, once it has returned `turn` again and again; reports are taken from the beginning. What
    `recover` or `turn` raises was not finished, and the next call goes on with it.

    Args:
        store: the durable queue.
        objects: the storage, where results stand.
        holders: the Simulator actors.
        clock: where the time comes from.
        lease: seconds for which an attempt counts as alive without a word from it.
        warm: seconds for which an idle actor is kept.
        storage: the storage's URI, for the actors.
    """

    def __init__(
        self,
        store: Store,
        objects: ObjectStore,
        holders: Holders,
        clock: Clock,
        *,
        lease: float,
        warm: float,
        storage: str,
    ) -> None:
        self._store = store
        self._objects = objects
        self._holders = holders
        self._now, self._monotonic = clock.now, clock.monotonic
        self._lease_seconds = lease
        self._warm = warm
        self._storage = storage
        self._held: dict[str, _Held] = {}
        self._lock = threading.RLock()
        self._machines: tuple[Host, ...] = ()
        self._machines_at = -_HOSTS_EVERY
        self._cancels: dict[tuple[str, int], float] = {}
        self._heard: dict[tuple[str, int], float] = {}
        """When each attempt that goes on was last heard of, by the clock that nobody sets."""
        self._checked_at = 0.0
        self._unwatched: set[tuple[str, str, int]] = set()

    # What attempts report.

    def moved(self, task: str, attempt: int, status: Status) -> Verdict:
        """Take a report that an attempt is running or finalizing."""
        self._hear(task, attempt)
        return self._take(task, Progress(attempt=attempt, status=status))

    def renew(self, task: str, attempt: int) -> Verdict:
        """Renew an attempt's lease."""
        self._hear(task, attempt)
        return self._take(task, Renew(attempt=attempt, lease_until=self._lease()))

    def ended(self, task: str, attempt: int, outcome: Outcome) -> Verdict:
        """Take a report that an attempt has ended."""
        self._hear(task, attempt)
        verdict = self._take(task, End(attempt=attempt, outcome=outcome))
        # The actor only tidies up now; what it is given meanwhile it begins a moment later.
        self._set_idle(task, attempt)
        return verdict

    def _take(self, task: str, stimulus: Stimulus) -> Verdict:
        try:
            self._store.apply(task, stimulus, self._now())
        except Refused as refused:
            return Verdict.TAKEN if refused.duplicate else Verdict.SUPERSEDED
        except NotFound:
            return Verdict.SUPERSEDED
        return Verdict.TAKEN

    def _hear(self, task: str, attempt: int) -> None:
        # Also where the store cannot write it down at present: who reports is alive.
        if (task, attempt) in self._heard:
            self._heard[task, attempt] = self._monotonic()

    def _lease(self, more: float = 0.0) -> datetime:
        return self._now() + timedelta(seconds=self._lease_seconds + more)

    # The turns.

    def turn(self) -> None:
        """Look after what runs, and start what can start."""
        now = self._monotonic()
        if now - self._machines_at >= _HOSTS_EVERY:
            self._machines, self._machines_at = self._holders.machines(), now
        self._check_active()
        queue = self._store.queue(self._now(), LOOK_AHEAD)
        records = {record.task.id: record for record in queue}
        with self._lock:
            holders = [held.holder for held in self._held.values()]
        candidates = (Candidate(task=record.task.id, group=record.task.group, kind=_kind(record)) for record in queue)
        for action in plan(candidates, self._machines, holders, now=now, warm=self._warm):
            match action:
                case Reuse():
                    self._dispatch(records[action.task], self._held[action.holder])
                case Start():
                    self._dispatch(records[action.task], self._start(action.kind, action.host))
                case Retire():
                    self._end(action.holder)

    def _check_active(self) -> None:
        """End leases that ran out, give back what was not handed over, and send cancels on."""
        active = {(record.task.id, record.task.attempts[-1].number): record for record in self._store.active()}
        self._measure(active)
        for name, task, attempt in list(self._unwatched):
            self._unwatched.discard((name, task, attempt))
            if (task, attempt) in active:
                self._holders.watch(name, task, attempt, partial(self._returned, name, task, attempt))
        for key, record in active.items():
            try:
                self._check(key, record)
            except SimyardError as error:
                # One task whose result cannot be looked up must not hold up all others.
                log.warning("attempt %s of %s could not be looked after: %s", key[1], key[0], error)

    def _measure(self, active: Mapping[tuple[str, int], TaskRecord]) -> None:
        """Take stock of how long nothing was heard of each attempt.

        A lease is measured here, by a clock that nobody sets, and only while this process listens: neither a clock
        that jumps nor a dispatcher or a store that stood still may end what goes on.
        """
        now = self._monotonic()
        deaf = now - self._checked_at
        self._checked_at = now
        for key in list(self._heard):
            if key not in active:
                del self._heard[key]
                self._cancels.pop(key, None)
            elif deaf > _ATTENTIVE:
                self._heard[key] = min(now, self._heard[key] + deaf)
        for key in active:
            self._heard.setdefault(key, now)

    def _check(self, key: tuple[str, int], record: TaskRecord) -> None:
        monotonic = self._monotonic()
        held = self._held.get(record.holder or "")
        if held is None:
            self._lost(*key, "The process that carried it is gone.")
        elif monotonic - self._heard.get(key, monotonic) > self._lease_seconds:
            self._lost(*key, "Its machine did not renew the lease in time.")
            if held.carries in {key, None}:
                self._end(held.holder.name)
        elif record.status is Status.PREPARING and held.carries != key:
            # A write that timed out and was kept, or a hand-over that failed half way.
            self._take(key[0], Undelivered(attempt=key[1]))
        elif record.task.cancel_requested and monotonic - self._cancels.get(key, -_CANCEL_EVERY) >= _CANCEL_EVERY:
            self._cancels[key] = monotonic
            self._holders.cancel(held.holder.name, *key)

    def _start(self, kind: Kind, host: str) -> _Held:
        name = self._holders.start(kind, host)
        held = _Held(holder=Holder(name=name, host=host, kind=kind, idle_since=None), carries=None)
        self._set(held)
        return held

    def _dispatch(self, record: TaskRecord, held: _Held) -> None:
        name = held.holder.name
        machine = next((host.name for host in self._machines if host.id == held.holder.host), held.holder.host)
        try:
            stimulus = Dispatch(
                machine=machine,
                holder=name,
                runtime=held.holder.kind.runtime,
                lease_until=self._lease(START_GRACE),
            )
            after = self._store.apply(record.task.id, stimulus, self._now())
        except SimyardError as error:
            # Where it was not refused since it was cancelled meanwhile, the next turn tries again.
            self._set(replace(held, holder=replace(held.holder, idle_since=self._monotonic()), carries=None))
            if isinstance(error, Refused):
                return
            raise
        attempt = after.task.attempts[-1].number
        self._heard[record.task.id, attempt] = self._monotonic() + START_GRACE
        work = Work(
            task=record.task.id,
            attempt=attempt,
            simulator=record.task.simulator,
            version=record.task.version,
            runtime=held.holder.kind.runtime,
            parameters=dict(record.task.parameters),
            commands=record.task.commands,
            inputs=self._store.inputs(record.task.id),
            resources=record.task.resources,
            limits=record.task.limits,
            project=record.task.project,
            storage=self._storage,
        )
        self._set(replace(held, holder=replace(held.holder, idle_since=None), carries=(work.task, attempt)))
        self._holders.hand_over(name, work, partial(self._returned, name, work.task, attempt))

    def _returned(self, name: str, task: str, attempt: int, left: Left) -> None:
        """Take note that an actor does not carry an attempt any more, one way or the other."""
        try:
            if isinstance(left, Unreachable):
                self._unwatched.add((name, task, attempt))
            elif isinstance(left, Gone):
                with self._lock:
                    self._held.pop(name, None)
                self._lost(task, attempt, "The process that carried it ended unexpectedly.")
            else:
                self._set_idle(task, attempt)
                if isinstance(left, Broken):
                    log.error("attempt %s of %s could not be carried: %s", attempt, task, left.why)
                    self._lost(task, attempt, f"It could not be carried: {left.why}"[:1000])
        except Exception:
            # The next turn sees that nobody carries it.
            log.exception("the end of attempt %s of %s was not taken note of", attempt, task)

    def _lost(self, task: str, attempt: int, message: str) -> None:
        """Take note that nobody carries an attempt any more."""
        reason = Reason(code=ReasonCode.MACHINE_LOST, message=message)
        with suppress(Refused, NotFound):
            settle(self._store, self._objects, task, attempt, reason, self._now())

    def _end(self, name: str | None) -> None:
        """End an actor: it is idle and not needed, frozen, or cut off."""
        with self._lock:
            held = self._held.pop(name or "", None)
        if held is not None:
            self._holders.end(held.holder.name)

    def _set_idle(self, task: str, attempt: int) -> None:
        """Take note that the actor which carries the attempt, where there is one, has nothing to do."""
        with self._lock:
            for held in self._held.values():
                if held.carries == (task, attempt):
                    idle = replace(held.holder, idle_since=self._monotonic())
                    self._held[held.holder.name] = replace(held, holder=idle, carries=None)
                    return

    def _set(self, held: _Held) -> None:
        with self._lock:
            self._held[held.holder.name] = held

    # After a start.

    def recover(self) -> None:
        """Find the actors that live and the attempts that they carry; give the rest of the attempts back."""
        self._machines, self._machines_at = self._holders.machines(), self._monotonic()
        states = self._holders.ask()
        active = self._store.active()
        self._checked_at = self._monotonic()
        self._meet(states, {record.holder or "": record for record in active})
        for record in active:
            task, attempt, name = record.task.id, record.task.attempts[-1].number, record.holder or ""
            held = self._held.get(name)
            try:
                if held is not None and held.carries == (task, attempt):
                    self._take(task, Renew(attempt=attempt, lease_until=self._lease()))
                    self._holders.watch(name, task, attempt, partial(self._returned, name, task, attempt))
                elif record.status is Status.PREPARING:
                    # The dispatcher that died had not handed it over, or its actor had not begun.
                    self._take(task, Undelivered(attempt=attempt))
                elif held is None:
                    self._lost(task, attempt, "The process that carried it was gone when the server came back.")
                else:
                    self._lost(task, attempt, "The process that carried it had given it up.")
            except SimyardError as error:
                log.warning("attempt %s of %s could not be taken over: %s", attempt, task, error)

    def _meet(self, states: Mapping[str, HolderState | None], active: Mapping[str, TaskRecord]) -> None:
        """Get to know the actors; one that does not answer counts as carrying what the store says, until its lease."""
        for name, state in states.items():
            record = active.get(name)
            if state is not None:
                idle_since = None if state.carries else self._monotonic()
                holder = Holder(name=name, host=state.host, kind=state.kind, idle_since=idle_since)
                self._set(_Held(holder=holder, carries=state.carries))
            elif record is None:
                self._holders.end(name)
            else:
                attempt = record.task.attempts[-1]
                host = next((host.id for host in self._machines if host.name == attempt.machine), attempt.machine)
                holder = Holder(name=name, host=host, kind=_kind(record), idle_since=None)
                self._set(_Held(holder=holder, carries=(record.task.id, attempt.number)))

    # What others ask.

    def groups(self) -> tuple[MachineGroup, ...]:
        """Return the groups with their machines and what is free on them."""
        with self._lock:
            holders = [held.holder for held in self._held.values()]
        groups: dict[str, list[Machine]] = {}
        for host in self._machines:
            # An idle actor makes room when a task needs it, so only those that carry one count as taken.
            taken = [h.kind.resources for h in holders if h.host == host.id and h.idle_since is None]
            groups.setdefault(host.group, []).append(
                Machine(
                    id=host.id,
                    name=host.name,
                    group=host.group,
                    cpus=host.cpus,
                    memory=host.memory,
                    gpus=host.gpus,
                    cpus_free=max(0.0, host.cpus - sum(r.cpus for r in taken)),
                    memory_free=max(0, host.memory - sum(r.memory for r in taken)),
                    gpus_free=max(0, host.gpus - sum(r.gpus for r in taken)),
                )
            )
        return tuple(MachineGroup(name=name, machines=tuple(machines)) for name, machines in sorted(groups.items()))


def _kind(record: TaskRecord) -> Kind:
    task = record.task
    if task.runtime is None:
        raise AssertionError("an admitted task names its runtime")
    return Kind(simulator=task.simulator, version=task.version, runtime=task.runtime, resources=task.resources)
