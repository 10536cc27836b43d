"""The dispatcher: a named Ray actor on the head that brings queued tasks to Simulator actors.

It holds no truth. All it knows it reads from the durable store and from the actors that live, so it may be killed at
any moment; Ray starts it again and it goes on where it stood.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.machines import RayMachine, list_machines
from simulators.actor import ActorState, Simulator
from simulators.outcome import Outcome
from simulators.work import Superseded, Work
from simyard.errors import NotFound, SimyardError
from simyard.group import Machine, MachineGroup
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from storage.objects import ObjectStore, open_store
from storage.settings import load_settings
from storage.uploads import sweep_uploads
from tasks.errors import Refused
from tasks.lifecycle import Dispatch, End, Expire, Progress, Renew, Stalled, Stimulus, Undelivered
from tasks.machine_watch import MachineWatch
from tasks.placement import Candidate, Holder, Host, Kind, Retire, Reuse, Start, plan
from tasks.record import TaskRecord
from tasks.recovery import settle
from tasks.reporting import DISPATCHER, NAMESPACE, DispatcherReporter, Verdict
from tasks.store import Store
from tasks.store import open_store as open_task_store

log = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""The longest pause between two turns, so that a lost wake-up costs no more than this."""
START_GRACE = 60.0
"""Seconds that a lease is longer while the attempt's actor may still have to start."""
LOOK_AHEAD = 1000
"""How many queued tasks one turn considers."""
_HOSTS_EVERY = 2.0
_CANCEL_EVERY = 2.0
_RECOVER_SECONDS = 15.0
_SWEEP_EVERY = 3600.0
_UPLOADS_KEPT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A Simulator actor that this dispatcher knows."""

    handle: Any
    holder: Holder
    carries: tuple[str, int] | None


class DispatcherActor:
    """Brings queued tasks to Simulator actors and takes their reports."""

    def __init__(self) -> None:
        self._settings = load_settings()
        self._store: Store = open_task_store(self._settings.database)
        self._objects: ObjectStore = open_store(self._settings.storage_uri)
        self._reporter = DispatcherReporter()
        self._held: dict[str, _Held] = {}
        self._lock = threading.RLock()
        self._news = threading.Event()
        self._machines: tuple[RayMachine, ...] = ()
        self._machines_at = -_HOSTS_EVERY
        self._watch = MachineWatch(self._store)
        self._cancels: dict[tuple[str, int], float] = {}
        self._swept_at = time.monotonic()
        self._turned_at = time.monotonic()
        threading.Thread(target=self._run, name="turns", daemon=True).start()

    # What others call.

    @ray.method(concurrency_group="control")
    def wake(self) -> None:
        """Look at the store now."""
        self._news.set()

    @ray.method(concurrency_group="control")
    def health(self) -> float:
        """Return the seconds since the last turn was completed."""
        return time.monotonic() - self._turned_at

    @ray.method(concurrency_group="control")
    def groups(self) -> tuple[MachineGroup, ...]:
        """Return the groups with their machines and what is free on them."""
        return self._groups()

    @ray.method(concurrency_group="reports")
    def moved(self, task: str, attempt: int, status: Status) -> Verdict:
        """Take a report that an attempt is running or finalizing."""
        return self._take(task, Progress(attempt=attempt, status=status))

    @ray.method(concurrency_group="reports")
    def renew(self, task: str, attempt: int) -> Verdict:
        """Renew an attempt's lease."""
        return self._take(task, Renew(attempt=attempt, lease_until=self._lease()))

    @ray.method(concurrency_group="reports")
    def ended(self, task: str, attempt: int, outcome: Outcome) -> Verdict:
        """Take a report that an attempt has ended."""
        end = self._watch.judge(task, End(attempt=attempt, outcome=outcome), self._group_names(), _now())
        verdict = self._take(task, end)
        # The actor only tidies up now; what it is given meanwhile it begins a moment later.
        self._set_idle(task, attempt)
        self._news.set()
        return verdict

    @ray.method(concurrency_group="reports")
    def stalled(self, task: str, attempt: int, number: int) -> Verdict:
        """Take a report that an attempt gives no output."""
        return self._take(task, Stalled(attempt=attempt, number=number))

    def _take(self, task: str, stimulus: Stimulus) -> Verdict:
        try:
            self._watch.saw(self._store.apply(task, stimulus, _now()), _now())
        except Refused as refused:
            return Verdict.TAKEN if refused.duplicate else Verdict.SUPERSEDED
        except NotFound:
            return Verdict.SUPERSEDED
        return Verdict.TAKEN

    def _lease(self, more: float = 0.0) -> datetime:
        return _now() + timedelta(seconds=self._settings.lease_seconds + more)

    # The turns.

    def _run(self) -> None:
        recovered = False
        while True:
            try:
                if not recovered:
                    self._recover()
                    recovered = True
                self._turn()
                self._turned_at = time.monotonic()
            except Exception:  # the loop must outlive any failure of the store, of Ray or of our own
                log.exception("a turn of the dispatcher failed; the next one tries again")
                time.sleep(TURN_SECONDS)
            self._news.wait(TURN_SECONDS)
            self._news.clear()

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._machines_at >= _HOSTS_EVERY:
            self._machines, self._machines_at = list_machines(), now
        if now - self._swept_at >= _SWEEP_EVERY:
            self._swept_at = now
            threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        self._check_active()
        for record in self._store.overdue(_now(), LOOK_AHEAD):
            self._take(record.task.id, Expire())
        queue = self._store.queue(_now(), LOOK_AHEAD)
        records = {record.task.id: record for record in queue}
        with self._lock:
            holders = [held.holder for held in self._held.values()]
        hosts = [
            Host(
                id=m.id,
                group=m.group,
                cpus=m.cpus,
                memory=m.memory,
                gpus=m.gpus,
                is_set_aside=self._until(m) is not None,
            )
            for m in self._machines
        ]
        candidates = [Candidate(task=record.task.id, group=record.task.group, kind=_kind(record)) for record in queue]
        for action in plan(candidates, hosts, holders, now=now, warm=self._settings.warm_seconds):
            match action:
                case Reuse():
                    self._dispatch(records[action.task], self._held[action.holder])
                case Start():
                    self._dispatch(records[action.task], self._start(action.kind, action.host))
                case Retire():
                    self._retire(action.holder)

    def _check_active(self) -> None:
        """End leases that ran out and send cancels on."""
        now, monotonic = _now(), time.monotonic()
        for record in self._store.active():
            key = (record.task.id, record.task.attempts[-1].number)
            if record.lease_until is not None and record.lease_until < now:
                self._lost(*key, "Its machine did not renew the lease in time.")
                self._kill(record.holder)
            elif record.task.cancel_requested and monotonic - self._cancels.get(key, -_CANCEL_EVERY) >= _CANCEL_EVERY:
                self._cancels[key] = monotonic
                held = self._held.get(record.holder or "")
                if held is not None:
                    held.handle.cancel.remote(*key)

    def _start(self, kind: Kind, host: str) -> _Held:
        name = f"sim-{uuid.uuid4().hex[:12]}"
        need = kind.resources
        handle = Simulator.options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            memory=need.memory,
            scheduling_strategy=NodeAffinitySchedulingStrategy(host, soft=False),
        ).remote(kind.simulator, kind.version, kind.runtime, need)
        held = _Held(handle=handle, holder=Holder(name=name, host=host, kind=kind, idle_since=None), carries=None)
        with self._lock:
            self._held[name] = held
        return held

    def _dispatch(self, record: TaskRecord, held: _Held) -> None:
        machine = next((m.name for m in self._machines if m.id == held.holder.host), held.holder.host)
        try:
            stimulus = Dispatch(
                machine=machine,
                holder=held.holder.name,
                runtime=held.holder.kind.runtime,
                lease_until=self._lease(START_GRACE),
            )
            after = self._store.apply(record.task.id, stimulus, _now())
        except SimyardError as error:
            # Where it was not refused since it was cancelled meanwhile, the next turn tries again.
            self._set(replace(held, holder=replace(held.holder, idle_since=time.monotonic()), carries=None))
            if isinstance(error, Refused):
                return
            raise
        attempt = after.task.attempts[-1].number
        self._set(replace(held, holder=replace(held.holder, idle_since=None), carries=(record.task.id, attempt)))
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
            storage=self._settings.storage_uri,
        )
        self._follow(held.holder.name, work.task, attempt, held.handle.carry.remote(work, self._reporter))

    def _follow(self, name: str, task: str, attempt: int, call: Any) -> None:
        future: Future[Any] = call.future()
        future.add_done_callback(lambda done: self._returned(name, task, attempt, done))

    def _returned(self, name: str, task: str, attempt: int, done: Future[Any]) -> None:
        """Take note that a call which lasts as long as an attempt has ended, one way or the other."""
        try:
            error = done.exception()
            if isinstance(error, RayActorError):
                with self._lock:
                    self._held.pop(name, None)
                record = self._lost(task, attempt, "The process that carried it ended unexpectedly.")
                self._watch.lost(record, self._group_names(), _now())
            else:
                self._set_idle(task, attempt)
                if isinstance(error, RayTaskError) and not isinstance(error.cause, Superseded):
                    log.error("attempt %s of %s could not be carried: %s", attempt, task, error)
                    record = self._lost(task, attempt, f"It could not be carried: {error.cause!r}"[:1000])
                    self._watch.lost(record, self._group_names(), _now())
        except Exception:
            # The lease covers what is missed here.
            log.exception("the end of attempt %s of %s was not taken note of", attempt, task)
        self._cancels.pop((task, attempt), None)
        self._news.set()

    def _lost(self, task: str, attempt: int, message: str) -> TaskRecord | None:
        """Take note that nobody carries an attempt any more; return its task where that is so."""
        reason = Reason(code=ReasonCode.MACHINE_LOST, message=message)
        with suppress(Refused, NotFound):
            return settle(self._store, self._objects, task, attempt, reason, _now())
        return None

    def _group_names(self) -> dict[str, str]:
        return {machine.name: machine.group for machine in self._machines}

    def _until(self, machine: RayMachine) -> datetime | None:
        """Return until when a machine is set aside; None for one that is not."""
        return self._watch.until(machine.name, _now())

    def _sweep(self) -> None:
        """Remove uploads that nobody has gone on with for a week."""
        try:
            sweep_uploads(self._objects, _now() - _UPLOADS_KEPT)
        except SimyardError as error:
            log.warning("old uploads could not be removed: %s", error)

    def _retire(self, name: str) -> None:
        with self._lock:
            held = self._held.pop(name, None)
        if held is not None:
            ray.kill(held.handle)

    def _kill(self, name: str | None) -> None:
        """End an actor that must not go on: it is frozen or cut off."""
        with self._lock:
            held = self._held.pop(name or "", None)
        if held is not None:
            ray.kill(held.handle)

    def _set_idle(self, task: str, attempt: int) -> None:
        """Take note that the actor which carries the attempt, where there is one, has nothing to do."""
        with self._lock:
            for held in self._held.values():
                if held.carries == (task, attempt):
                    idle = replace(held.holder, idle_since=time.monotonic())
                    self._held[held.holder.name] = replace(held, holder=idle, carries=None)
                    return

    def _set(self, held: _Held) -> None:
        with self._lock:
            self._held[held.holder.name] = held

    # After a start.

    def _recover(self) -> None:
        """Find the actors that live and the attempts that they carry; give the rest of the attempts back."""
        self._machines, self._machines_at = list_machines(), time.monotonic()
        states = self._ask_actors()
        for record in self._store.active():
            task, attempt = record.task.id, record.task.attempts[-1].number
            found = states.get(record.holder or "")
            if found is None:
                self._lost(task, attempt, "The process that carried it was gone when the server came back.")
            elif found[1].current == (task, attempt):
                self._take(task, Renew(attempt=attempt, lease_until=self._lease()))
                self._follow(record.holder or "", task, attempt, found[0].watch.remote(task, attempt))
            elif record.status is Status.PREPARING:
                # The dispatcher that died had not handed it over, or its actor had not begun.
                self._take(task, Undelivered(attempt=attempt))
            else:
                self._lost(task, attempt, "The process that carried it had given it up.")

    def _ask_actors(self) -> dict[str, tuple[Any, ActorState]]:
        names = [
            item["name"]
            for item in ray.util.list_named_actors(all_namespaces=True)
            if item["namespace"] == NAMESPACE and item["name"].startswith("sim-")
        ]
        calls: dict[str, tuple[Any, Any]] = {}
        for name in names:
            try:
                handle = ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:
                continue
            calls[name] = (handle, handle.state.remote())
        if calls:
            ray.wait([call for _, call in calls.values()], num_returns=len(calls), timeout=_RECOVER_SECONDS)
        states: dict[str, tuple[Any, ActorState]] = {}
        for name, (handle, call) in calls.items():
            try:
                state: ActorState = ray.get(call, timeout=0.1)
            except Exception as error:  # noqa: BLE001 - dead, frozen or of an older release: it is of no use
                log.warning("the Simulator actor %s does not answer and is ended: %r", name, error)
                ray.kill(handle)
                continue
            if state.resources is None:
                continue
            kind = Kind(
                simulator=state.simulator, version=state.version, runtime=state.runtime, resources=state.resources
            )
            idle_since = None if state.current else time.monotonic()
            holder = Holder(name=name, host=state.node, kind=kind, idle_since=idle_since)
            self._set(_Held(handle=handle, holder=holder, carries=state.current))
            states[name] = (handle, state)
        return states

    def _groups(self) -> tuple[MachineGroup, ...]:
        with self._lock:
            holders = [held.holder for held in self._held.values()]
        groups: dict[str, list[Machine]] = {}
        for machine in self._machines:
            # An idle actor makes room when a task needs it, so only those that carry one count as taken.
            taken = [h.kind.resources for h in holders if h.host == machine.id and h.idle_since is None]
            groups.setdefault(machine.group, []).append(
                Machine(
                    id=machine.id,
                    name=machine.name,
                    group=machine.group,
                    cpus=machine.cpus,
                    memory=machine.memory,
                    gpus=machine.gpus,
                    cpus_free=max(0.0, machine.cpus - sum(r.cpus for r in taken)),
                    memory_free=max(0, machine.memory - sum(r.memory for r in taken)),
                    gpus_free=max(0, machine.gpus - sum(r.gpus for r in taken)),
                    set_aside_until=self._until(machine),
                )
            )
        return tuple(MachineGroup(name=name, machines=tuple(machines)) for name, machines in sorted(groups.items()))


def _now() -> datetime:
    return datetime.now(UTC)


def _kind(record: TaskRecord) -> Kind:
    task = record.task
    if task.runtime is None:
        raise AssertionError("an admitted task names its runtime")
    return Kind(simulator=task.simulator, version=task.version, runtime=task.runtime, resources=task.resources)


_Dispatcher: Any = ray.remote(  # type: ignore[call-overload]  # Ray's type does not know concurrency groups
    concurrency_groups={"control": 4, "reports": 8}
)(DispatcherActor)


def start_dispatcher() -> Any:
    """Return the dispatcher of this cluster, started on the head where it does not run yet."""
    return _Dispatcher.options(
        name=DISPATCHER,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
    ).remote()
