"""The dispatcher's core: what it knows and what it decides, with no Ray, no thread, no network and no clock of its own.

Everything outside stands behind a Protocol: the store, the storage, the Simulator actors and the clock. So all of it
can be driven through years of crashes in a minute, see `tests/simulation`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

from cluster.fleet import Demand
from simulators.outcome import Outcome
from simulators.work import News, Place, Report, Stall, Taken, Work
from simyard.dependency import InputFrom
from simyard.errors import NotFound, SimyardError
from simyard.group import MachineGroup
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.objects import ObjectStore, is_on_this_machine
from tasks.crew import Crew, Held
from tasks.demand import demands
from tasks.errors import Refused, StoreUnavailable
from tasks.holders import Broken, Gone, Holders, HolderState, Left, Unreachable, Verdict
from tasks.in_place import InPlace
from tasks.leases import Leases
from tasks.lifecycle import Adopt, Dispatch, End, Expire, Progress, Renew, Stalled, Tell, Undelivered
from tasks.machine_watch import MachineWatch
from tasks.nearness import Nearness
from tasks.placement import Action, Candidate, Holder, Host, Kind, Retire, Reuse, Start, free_places, placed, plan
from tasks.prices import Prices
from tasks.record import TaskRecord
from tasks.recovery import settle, settle_stored
from tasks.reuse import take_results
from tasks.rooms import groups_of, sized
from tasks.rules import Rules
from tasks.shares import Line, Shares
from tasks.spent import SpentSnapshots
from tasks.store import Store
from tasks.takeovers import Takeovers

log = logging.getLogger(__name__)

START_GRACE = 60.0
"""Seconds that a lease is longer while the attempt's actor may still have to start."""
RETURN_SECONDS = 120.0
"""How long machines may take to join a head again that has come back without its memory of them."""
LOOK_AHEAD = 1000
"""How many queued tasks one turn considers."""
_GLANCE = 8
"""How many it considers first, at least."""
_SETTLE_STEPS = 10
"""How often one turn tells so many tasks of the ends that they wait for, so that the rest is not kept waiting."""
_HOSTS_EVERY = 2.0
_CANCEL_EVERY = 2.0
_LEAVING_SECONDS = 600.0
"""For how long a machine that has left is remembered."""
_UNANSWERED_SECONDS = 30.0
"""For how long a machine gets no tasks that one over several has lost; Ray takes up to 20 s to see that it has gone."""
_ENDED = "The process that carried it ended unexpectedly."
_GIVEN_UP = "The process that carried it carries another task."


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Where the time comes from."""

    now: Callable[[], datetime]
    """The time of day; somebody may set it forwards and back."""
    monotonic: Callable[[], float]
    """Seconds that only ever grow."""


_Said = Progress | Renew | End | Undelivered | Stalled | Tell
"""What is said of one attempt."""


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
        prices: gives what machines cost, as it is known at the moment.
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
        prices: Callable[[], Prices] = Prices,
    ) -> None:
        self._store = store
        self._prices = prices
        self._objects = objects
        self._holders = holders
        self._now, self._monotonic = clock.now, clock.monotonic
        self._lease_seconds = lease
        self._warm = warm
        self._storage = storage
        self._crew = Crew()
        self._lock = threading.RLock()
        self._machines: tuple[Host, ...] = ()
        self._hosts: dict[str, Host] = {}
        """What people call each machine."""
        self._largest: dict[str, Host] = {}
        """The largest machine that each group had of late."""
        self._in_place = InPlace()
        self._nearness = Nearness()
        self._machines_at = -_HOSTS_EVERY
        self._watch = MachineWatch(store)
        self._shares = Shares()
        self._cancels: dict[tuple[str, int], float] = {}
        self._leases = Leases(lease)
        self._spent = SpentSnapshots(objects)
        self._returning: dict[tuple[str, int], float] = {}
        """Attempts whose machine was not there when this dispatcher began, and how long it may still come back."""
        self._leaving: dict[str, float] = {}
        """Machines by name, and when they were last seen to be leaving."""
        self._unanswered: dict[str, float] = {}
        """Machines by name, and when a task over several last lost them."""
        self._idle: dict[str, datetime] = {}
        """Since when machines carry no task, by their ids."""
        self._takeovers = Takeovers(lease)

    # What attempts report.

    def renew(self, task: str, attempt: int) -> Verdict:
        """Renew an attempt's lease."""
        return self._take(task, Renew(attempt=attempt, lease_until=self._lease()))

    def report(self, task: str, attempt: int, reports: Sequence[Report]) -> Verdict:
        """Take what an attempt reports, in its order; it is superseded when the last of it is not taken."""
        now = self._now()
        *earlier, (last, at) = [(_stimulus(attempt, one), now - timedelta(seconds=one.age)) for one in reports]
        if not isinstance(last, End):
            return self._take(task, last, at, earlier)
        if earlier and last.outcome.status is Status.FAILED:
            # Whether its machine is at fault is judged by when it had started.
            *before, (newest, moment) = earlier
            self._take(task, newest, moment, before)
            earlier = []
        verdict = self._take(task, self._watch.judge(task, last, self._machines, now), at, earlier)
        # The actor only tidies up now; what it is given meanwhile it begins a moment later. One over several machines
        # is given nothing more, and ends once it has tidied up.
        with self._lock:
            held = self._crew.carrier(task, attempt)
        if held is not None and held.holder.kind.resources.machines == 1:
            self._set_idle(task, attempt)
        return verdict

    def _take(
        self,
        task: str,
        stimulus: _Said,
        at: datetime | None = None,
        earlier: Sequence[tuple[_Said, datetime]] = (),
    ) -> Verdict:
        key = (task, stimulus.attempt)
        # Also where the store cannot write it down at present: who reports is alive.
        self._leases.hear(key, self._monotonic())
        if self._takeovers.hear(key):
            self._drop_dead(*key)
        try:
            after = self._store.apply(task, stimulus, at or self._now(), earlier=earlier)
            self._watch.saw(after, self._now())
            self._saw(after)
            self._spent.see(after)
            self._set_busy(after)
        except Refused as refused:
            return Verdict.TAKEN if refused.duplicate else Verdict.SUPERSEDED
        except NotFound:
            return Verdict.SUPERSEDED
        return Verdict.TAKEN

    def _saw(self, record: TaskRecord) -> None:
        """Take note of what is in place on a machine, now that the task runs there."""
        with self._lock:
            self._in_place = self._in_place.after(record)

    def _lease(self, more: float = 0.0) -> datetime:
        return self._now() + timedelta(seconds=self._lease_seconds + more)

    # The turns.

    def turn(self) -> None:
        """Look after what runs, and start what can start."""
        now = self._monotonic()
        if now - self._machines_at >= _HOSTS_EVERY:
            self._look_at_machines()
        silent = self._check_active()
        self._spent.clear()
        for record in self._store.overdue(self._now(), LOOK_AHEAD):
            with suppress(Refused, NotFound):
                self._spent.see(self._store.apply(record.id, Expire(), self._now()))
        for _ in range(_SETTLE_STEPS):
            if self._store.settle(self._now(), LOOK_AHEAD) < LOOK_AHEAD:
                break
        with self._lock:
            holders = [held.holder for held in self._crew]
        aside = self._aside(silent, now)
        hosts = [
            replace(host, is_set_aside=host.name in aside, environments=self._in_place.on(host.name))
            for host in self._machines
        ]
        # Whoever waits for a machine that is full need not be read at every turn; mostly the first few take all room.
        for depth in _depths(free_places(hosts, holders)):
            found = self._store.queue(self._now(), depth) if depth else []
            queue = take_results(self._store, self._objects, found, self._now())
            records = {record.task.id: sized(record, self._largest) for record in queue}
            line, actions = self._plan(records, hosts, holders, now)
            # What took a result leaves its place to what stands behind it.
            if not line.ran_dry and len(queue) == len(found):
                break
        self._shares = line.after(self._shares)
        for action in actions:
            match action:
                case Reuse():
                    if (held := self._crew.get(action.holder)) is not None:
                        self._dispatch(records[action.task], held)
                case Start():
                    held = self._start(action.kind, action.host, action.others)
                    self._dispatch(records[action.task], held)
                case Retire():
                    self._end(action.holder)

    def _aside(self, silent: set[str], now: float) -> set[str]:
        """Return the names of the machines that get no tasks at present."""
        aside = {name for name, at in self._unanswered.items() if now - at < _UNANSWERED_SECONDS}
        aside.update(self._watch.set_aside(self._machines, self._now()))
        # It takes Ray a minute to see that a machine has gone without a word. Where all are silent it may be us.
        suspect = aside | silent
        well = {host.group for host in self._machines if host.name not in suspect}
        return aside | {host.name for host in self._machines if host.name in silent and host.group in well}

    def _plan(
        self, queue: Mapping[str, TaskRecord], hosts: list[Host], holders: list[Holder], now: float
    ) -> tuple[Line, list[Action]]:
        """Return the line that queued tasks make, as far as they got a place, and what to do now."""
        rules = self._store.rules(self._now()) if queue else Rules()
        line = Line(queue.values(), self._shares, rules, self._prices())
        near = self._nearness
        candidates = (
            Candidate(task=record.task.id, group=record.task.group, kind=_kind(record), near=near.to(record))
            for record in line
        )
        actions = plan(
            candidates, hosts, holders, now=now, warm=self._warm, started=lambda task: line.started(queue[task])
        )
        return line, actions

    def _check_active(self) -> set[str]:
        """End leases that ran out, give back what was not handed over, and send cancels on.

        Return the names of the machines of which nothing was heard for a while.
        """
        active = {record.key: record for record in self._store.active()}
        self._leases.look(active, self._monotonic())
        machines = {key: record.task.attempts[-1].machine for key, record in active.items()}
        silent = self._leases.silent(machines, self._monotonic())
        self._shares = self._shares.after(active.values(), self._monotonic(), self._now())
        for key in self._takeovers.forget(active):
            self._drop_dead(*key)
        self._returning = {key: ends for key, ends in self._returning.items() if key in active}
        self._cancels = {key: at for key, at in self._cancels.items() if key in active}
        self._watch_again()
        now = self._monotonic()
        for key, record in active.items():
            try:
                self._check(record, active, now)
            except StoreUnavailable:
                raise
            except Exception as error:  # one task whose result cannot be looked up must not hold up all others
                is_ours = isinstance(error, SimyardError)
                log.warning("attempt %s of %s could not be looked after: %r", *key[::-1], error, exc_info=not is_ours)
        return silent

    def _watch_again(self) -> None:
        """Ask to be told of the attempts of which nobody else would tell us, also where they are over for the store."""
        with self._lock:
            unwatched = [held for held in self._crew if not held.watched]
            for held in unwatched:
                self._crew.put(replace(held, watched=True))
        for held in unwatched:
            if held.carries is not None:
                name = held.holder.name
                self._holders.watch(name, *held.carries, partial(self._watched, name, *held.carries))

    def _check(self, record: TaskRecord, active: Mapping[tuple[str, int], TaskRecord], now: float) -> None:
        key, held = record.key, self._crew.get(record.holder)
        if (rests := self._takeovers.rests(key, now)) is not None:
            if not rests:
                is_dead = held is not None and held.carries == key
                try:
                    self._gone(*key, record.holder, _ENDED, rested=True)
                finally:
                    if is_dead:
                        with self._lock:
                            self._crew.drop(record.holder)
        elif held is None:
            if now >= self._returning.get(key, now) or self._has_machine(record):
                self._gone(*key, record.holder, "The process that carried it is gone.")
        elif _carries_other(held, key, active):
            self._gone(*key, record.holder, _GIVEN_UP)
        elif key not in self._leases:
            # A write that timed out and was kept, or a hand-over that failed half way.
            self._take(key[0], Undelivered(attempt=key[1]))
        elif self._leases.is_out(key, now):
            if held.carries in {key, None}:
                self._end(record.holder)
            self._gone(*key, record.holder, "Its machine did not renew the lease in time.")
        elif record.task.cancel_requested and now - self._cancels.get(key, -_CANCEL_EVERY) >= _CANCEL_EVERY:
            self._cancels[key] = now
            self._holders.cancel(held.holder.name, *key)

    def _start(self, kind: Kind, host: str, others: tuple[str, ...] = ()) -> Held:
        name = self._holders.start(kind, host)
        held = Held(holder=Holder(name=name, host=host, kind=kind, idle_since=None, others=others), carries=None)
        self._set(held)
        return held

    def _dispatch(self, record: TaskRecord, held: Held) -> None:
        name = held.holder.name
        host = self._hosts.get(held.holder.host)
        need = held.holder.kind.resources
        others = tuple(Place(name=self._name_of(node), node=node) for node in held.holder.others)
        try:
            stimulus = Dispatch(
                machine=self._name_of(held.holder.host),
                others=tuple(one.name for one in others),
                holder=name,
                runtime=held.holder.kind.runtime,
                lease_until=self._lease(START_GRACE),
                resources=need,
                usd_per_hour=None if host is None else self._prices().of_place(host, need),
            )
            after = self._store.apply(record.task.id, stimulus, self._now())
            work = self._work(after, others)
            key = (work.task, work.attempt)
            self._set(replace(held, holder=replace(held.holder, idle_since=None), carries=key))
            self._holders.hand_over(name, work, partial(self._returned, name, *key))
        except Exception as error:
            # Where it was not refused since it was cancelled meanwhile, the next turn tries again.
            self._set(replace(held, holder=replace(held.holder, idle_since=self._monotonic()), carries=None))
            if isinstance(error, Refused):
                return
            raise
        self._leases.begin(key, self._monotonic(), START_GRACE)
        if not is_on_this_machine(self._storage):
            self._nearness = self._nearness.after(record, held.holder.host)

    def _name_of(self, host: str) -> str:
        """Return what people call a machine."""
        known = self._hosts.get(host)
        return host if known is None else known.name

    def _work(self, record: TaskRecord, others: tuple[Place, ...] = ()) -> Work:
        """Return the newest attempt at a task as its actor needs to know it."""
        kind = _kind(record)
        return Work(
            task=record.id,
            attempt=record.attempt,
            simulator=kind.simulator,
            version=kind.version,
            runtime=kind.runtime,
            parameters=dict(record.task.parameters),
            commands=record.task.commands,
            inputs=self._store.inputs(record.id),
            resources=record.task.resources,
            limits=record.task.limits,
            project=record.task.project,
            storage=self._storage,
            checkpoint=record.task.checkpoint,
            taken=tuple(self._taken(one) for one in record.task.inputs_from),
            others=others,
        )

    def _taken(self, one: InputFrom) -> Taken:
        """Return where the outputs lie that a task takes of another one."""
        task, attempt = str(one.task), None
        with suppress(NotFound):
            parent = self._store.get(task).task
            task, attempt = parent.reused_from or parent.id, parent.result
        return Taken(task=task, attempt=attempt, what=one)

    def _returned(self, name: str, task: str, attempt: int, left: Left) -> bool:
        """Take note that an actor does not carry an attempt any more, one way or the other; says whether it is news."""
        try:
            if isinstance(left, Unreachable):
                with self._lock:
                    if (held := self._crew.get(name)) is not None:
                        self._crew.put(replace(held, watched=False))
            elif isinstance(left, Gone):
                rests = False
                try:
                    rests = self._gone(task, attempt, name, _ENDED)
                finally:
                    # Not before: its room is for whoever takes over, now or after a rest.
                    with self._lock:
                        held = self._crew.get(name)
                        if not (rests and held is not None and held.carries == (task, attempt)):
                            self._crew.drop(name)
            else:
                is_news = self._set_idle(task, attempt, name)
                if left is None:
                    return is_news
                if isinstance(left, Broken):
                    log.error("attempt %s of %s could not be carried: %s", attempt, task, left.why)
                    if left.machine:
                        self._unanswered[left.machine] = self._monotonic()
                    self._lost(task, attempt, name, f"It could not be carried: {left.why}"[:1000])
        except Exception:
            # The next turn sees that nobody carries it.
            log.exception("the end of attempt %s of %s was not taken note of", attempt, task)
        return True

    def _watched(self, name: str, task: str, attempt: int, left: Left) -> bool:
        """Take note of what an actor said that was asked to tell when it does not carry an attempt any more."""
        if left is None:
            # One that was only just being made when the dispatcher died has never got the attempt.
            with suppress(NotFound, StoreUnavailable):
                record = self._store.get(task)
                if (record.attempt, record.holder) == (attempt, name) and _is_new(record):
                    self._take(task, Undelivered(attempt=attempt))
        self._returned(name, task, attempt, left)
        return True

    def _drop_dead(self, task: str, attempt: int) -> None:
        """Forget the actor that had died as it took an attempt over; its room is kept for nobody any more."""
        with self._lock:
            if (held := self._crew.carrier(task, attempt)) is not None:
                self._crew.drop(held.holder.name)

    def _gone(self, task: str, attempt: int, name: str | None, message: str, *, rested: bool = False) -> bool:
        """Take note that the actor which carried an attempt has gone: another one takes over, or the attempt is lost.

        What it ran goes on on its machine meanwhile, or has ended there with everything that it made. Says whether the
        other one has to rest first, which it has not yet, since this one had only just been told to take over.
        """
        with suppress(Refused, NotFound):
            record = self._store.get(task)
            if (record.attempt, record.holder) != (attempt, name):
                return False
            try:
                if (stored := settle_stored(self._store, self._objects, task, attempt, self._now())) is not None:
                    self._spent.see(stored)
                    return False
            except StorageUnavailable as error:
                log.warning("whether attempt %s of %s has a result is not known yet: %s", attempt, task, error)
            now = self._monotonic()
            is_hopeless = self._takeovers.is_hopeless(record.key, is_late=self._leases.is_out(record.key, now))
            if not is_hopeless and not rested and self._takeovers.rest(record.key, now):
                return True
            if is_hopeless or not self._adopt(record):
                self._lost(task, attempt, name, message)
        return False

    def _adopt(self, record: TaskRecord) -> bool:
        """Let a new actor take an attempt over on the machine where it runs; says whether there is one.

        What ran on several machines has ended on the others with the actor that carried it.
        """
        machine = record.task.attempts[-1].machine
        with self._lock:
            gone = self._crew.get(record.holder)
            if gone is not None and gone.carries == record.key:
                self._crew.put(replace(gone, carries=None))
        # A machine is known again by its name: Ray gives it a new id when it starts anew.
        hosts = [host for host in self._look_at_machines() if host.name == machine and not host.is_leaving]
        hosts.sort(key=lambda host: gone is not None and host.id == gone.holder.host, reverse=True)
        if not hosts or record.task.resources.machines > 1:
            return False
        held = self._start(placed(_kind(record), hosts[0]), hosts[0].id)
        stimulus = Adopt(
            attempt=record.attempt,
            holder=held.holder.name,
            instead_of=record.holder or "",
            lease_until=self._lease(START_GRACE),
        )
        try:
            after = self._store.apply(record.id, stimulus, self._now())
        except SimyardError as error:
            self._end(held.holder.name)
            if isinstance(error, Refused):
                return False
            raise
        self._let_adopt(after, held)
        return True

    def _let_adopt(self, record: TaskRecord, held: Held) -> None:
        """Tell the actor that holds an attempt to take it over from whoever carried it before."""
        name, key = held.holder.name, record.key
        self._set(replace(held, holder=replace(held.holder, idle_since=None), carries=key))
        self._takeovers.begin(key)
        self._leases.begin(key, self._monotonic(), START_GRACE)
        self._holders.adopt(name, self._work(record), partial(self._returned, name, *key))

    def _lost(self, task: str, attempt: int, name: str | None, message: str) -> None:
        """Take note that nobody carries an attempt any more, unless another actor has taken it over."""
        reason = Reason(code=ReasonCode.MACHINE_LOST, message=message)
        with suppress(Refused, NotFound):
            last = self._store.get(task).task.attempts[-1]
            if any(machine in self._leaving for machine in (last.machine, *last.others)):
                reason = Reason(code=ReasonCode.PREEMPTED, message="Its machine was taken away, as it was told to be.")
            after = settle(self._store, self._objects, task, attempt, reason, self._now(), holder=name)
            self._watch.lost(after, self._machines, self._now())
            self._spent.see(after)

    def _look_at_machines(self) -> tuple[Host, ...]:
        """Return the machines as they are now, and remember those that are being taken away.

        What is lost with one of these is not charged.
        """
        found, now = self._holders.machines(), self._monotonic()
        with self._lock:
            busy = {host for held in self._crew if held.holder.idle_since is None for host in held.holder.hosts}
        self._idle = {host.id: self._idle.get(host.id, self._now()) for host in found if host.id not in busy}
        self._machines, self._machines_at = found, now
        self._hosts = {host.id: host for host in found}
        self._largest |= {host.group: host for host in sorted(found, key=lambda host: host.cpus)}
        seen = {name: at for name, at in self._leaving.items() if now - at < _LEAVING_SECONDS}
        self._leaving = seen | {host.name: now for host in found if host.is_leaving}
        return found

    def _end(self, name: str | None) -> None:
        """End an actor: it is idle and not needed, frozen, or cut off."""
        with self._lock:
            held = self._crew.drop(name)
        if held is not None:
            self._holders.end(held.holder.name)

    def _set_idle(self, task: str, attempt: int, name: str | None = None) -> bool:
        """Take note that the actor which carries the attempt, of that name if it is given, has nothing to do.

        Says whether there is one.
        """
        with self._lock:
            held = self._crew.carrier(task, attempt)
            if held is None or name not in {None, held.holder.name}:
                return False
            idle = replace(held.holder, idle_since=self._monotonic())
            self._crew.put(replace(held, holder=idle, carries=None))
            return True

    def _set_busy(self, record: TaskRecord) -> None:
        """Take note that an actor which seemed to have nothing to do reports: the attempt had waited for it."""
        with self._lock:
            held = self._crew.get(record.holder)
            if held is not None and held.carries is None and record.status.is_active:
                busy = replace(held.holder, idle_since=None)
                self._crew.put(Held(holder=busy, carries=record.key, watched=False))

    def _set(self, held: Held) -> None:
        with self._lock:
            self._crew.put(held)

    # After a start.

    def recover(self) -> None:
        """Find the actors that live and the attempts that they carry; give the rest of the attempts back."""
        self._look_at_machines()
        states = self._holders.ask()
        active = self._store.active()
        self._meet(states, {record.holder or "": record for record in active})
        departed = self._holders.departed()
        going = {record.key: record for record in active}
        for record in active:
            self._saw(record)
            try:
                self._take_up(record, going, departed)
            except StorageUnavailable as error:
                # The next turn sees that nobody carries it.
                log.warning("attempt %s of %s could not be taken up: %s", *record.key[::-1], error)

    def _take_up(
        self, record: TaskRecord, going: Mapping[tuple[str, int], TaskRecord], departed: Container[str]
    ) -> None:
        """Go on with an attempt that an earlier dispatcher had begun."""
        key, name = record.key, record.holder or ""
        held = self._crew.get(name)
        machine = record.task.attempts[-1].machine
        if held is None and not self._has_machine(record) and machine not in departed:
            # The head may be back before its machines are, and what runs there goes on.
            self._returning[key] = self._monotonic() + RETURN_SECONDS
        elif held is None:
            self._gone(*key, record.holder, "Its process was gone when the server came back.")
        elif _carries_other(held, key, going):
            self._gone(*key, record.holder, _GIVEN_UP)
        elif held.carries == key:
            self._leases.begin(key, self._monotonic())
            self._take(key[0], Renew(attempt=key[1], lease_until=self._lease()))
        elif _is_new(record):
            # The dispatcher that died had not handed it over, or its actor had not begun.
            self._take(key[0], Undelivered(attempt=key[1]))
        else:
            # Its actor was about to take it over, or has given it up, which it finds when it looks.
            self._take(key[0], Renew(attempt=key[1], lease_until=self._lease()))
            self._let_adopt(record, held)

    def _has_machine(self, record: TaskRecord) -> bool:
        machine = record.task.attempts[-1].machine
        return any(host.name == machine for host in self._machines)

    def _meet(self, states: Mapping[str, HolderState | None], active: Mapping[str, TaskRecord]) -> None:
        """Get to know the actors; one that does not answer counts as carrying what the store says, until its lease."""
        now = self._monotonic()
        with self._lock:
            self._crew.clear()
        for name, state in states.items():
            record = active.get(name)
            if state is not None:
                holder = Holder(
                    name=name,
                    host=state.host,
                    kind=state.kind,
                    idle_since=None if state.carries else now,
                    others=state.others,
                )
                self._set(Held(holder=holder, carries=state.carries, watched=False))
            elif record is None:
                self._holders.end(name)
            else:
                last = record.task.attempts[-1]
                ids = {one.name: host for host, one in self._hosts.items()}
                host, *others = (ids.get(machine, machine) for machine in (last.machine, *last.others))
                holder = Holder(name=name, host=host, kind=_kind(record), idle_since=None, others=tuple(others))
                self._set(Held(holder=holder, carries=(record.task.id, last.number), watched=False))

    # What others ask.

    def demands(self) -> dict[str, Demand]:
        """Return what the machine groups are asked for."""
        with self._lock:
            holders = [held.holder for held in self._crew]
        staying = [host for host in self._machines if not host.is_leaving]
        return demands(self._store, staying, holders, self._shares, self._now(), self._largest, self._prices())

    def groups(self) -> tuple[MachineGroup, ...]:
        """Return the groups with their machines and what is free on them."""
        with self._lock:
            holders = [held.holder for held in self._crew]
        aside = self._watch.set_aside(self._machines, self._now())
        return groups_of(self._machines, holders, aside, self._idle)


def _depths(places: int) -> tuple[int, ...]:
    """Return how many queued tasks to consider first, and how many where those are not enough."""
    if places == 0:
        return (0,)
    # Users take turns, so who runs little may be the next one several times.
    first = max(_GLANCE, 3 * places)
    return (first, LOOK_AHEAD) if first < LOOK_AHEAD else (LOOK_AHEAD,)


def _stimulus(attempt: int, report: Report) -> _Said:
    """Return what an attempt reports as it comes to the task."""
    match report.what:
        case Status() as status:
            return Progress(attempt=attempt, status=status)
        case Stall(number):
            return Stalled(attempt=attempt, number=number)
        case News() as news:
            return Tell(attempt=attempt, news=news)
        case Outcome() as outcome:
            return End(attempt=attempt, outcome=outcome)
        case _:
            assert_never(report.what)


def _carries_other(held: Held, key: tuple[str, int], going: Mapping[tuple[str, int], TaskRecord]) -> bool:
    """Say whether an actor carries another attempt that goes on, and so not this one, whatever the store says.

    That it had given this one up could not be written down then.
    """
    if held.carries is None or held.carries == key:
        return False
    other = going.get(held.carries)
    return other is not None and other.holder == held.holder.name


def _is_new(record: TaskRecord) -> bool:
    """Say whether an attempt was given to one actor only, which has not said that it runs."""
    return record.status is Status.PREPARING and not record.task.attempts[-1].adoptions


def _kind(record: TaskRecord) -> Kind:
    task = record.task
    if task.runtime is None:
        raise AssertionError("an admitted task names its runtime")
    return Kind(simulator=task.simulator, version=task.version, runtime=task.runtime, resources=task.resources)
