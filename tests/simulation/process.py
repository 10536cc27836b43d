"""The dispatcher's process in a simulated world: it may die or freeze at any call that leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from simulators.outcome import Outcome
from simulators.work import Report, Work
from simyard.errors import SimyardError, Unavailable
from simyard.files import InputFile
from storage.errors import ObjectNotFound, StorageUnavailable
from storage.objects import ObjectInfo
from storage.paths import Paths
from tasks.desk import Clock, Desk
from tasks.errors import Refused, StoreUnavailable
from tasks.holders import Gone, HolderState, Left, OnLeft, Verdict
from tasks.memory import MemoryStore
from tasks.placement import Host, Kind
from tasks.record import TaskRecord
from tasks.rules import Rules
from tasks.stimulus import Stimulus
from tests.simulation.actors import LEASE, WARM, Actor, Cluster, Handed, word
from tests.simulation.standby import DECISIONS, Lead
from tests.simulation.world import BEGIN, Crash, PromiseBroken, World

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.promises import Promises

TURN_SECONDS = 1.0
_ASK_SECONDS = 15.0
_DEEPEST = 2
_ONLY_TERM = 1
MakeDesk = Callable[..., Desk]
Earlier = Sequence[tuple[Stimulus, datetime]]


class Process:
    """One life of the dispatcher's process, with what the shell around the core does."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        faults: Faults,
        store: SimStore,
        make_desk: MakeDesk,
        lead: Lead | None = None,
    ) -> None:
        self.world = world
        self.faults = faults
        self.cluster = cluster
        self.lead = lead
        """None where the store has only this server."""
        self.alive = True
        self.frozen_until = 0.0
        self.recovered: int | None = None
        """The term for which it has found out what there is."""
        self.rules = Rules()
        """As it has last read them."""
        self.on_death: Callable[[], None] = lambda: None
        self._busy = self._again = False
        self._turn_due = 0.0
        self._mailbox: list[Callable[[], object]] = []
        self._danger = faults.crash + faults.aside
        self._store = _Store(self, store)
        self.desk = make_desk(
            self._store,
            _Objects(self, cluster),
            _Holders(self, cluster),
            Clock(now=world.now, monotonic=world.monotonic),
            lease=LEASE,
            warm=WARM,
            storage="memory://simulated",
            prices=lambda: cluster.prices,
        )
        self._schedule(0.01)

    @property
    def is_leading(self) -> bool:
        """Say whether it lives and may act."""
        return self.alive and (self.lead is None or self.lead.is_mine)

    # Faults.

    def step(self) -> None:
        """Stand between two calls: here the process may die, freeze, or other threads may go on."""
        if not self.alive:
            raise Crash
        if self.frozen_until > self.world.at:
            self.world.run(self.frozen_until)
        if self._danger:
            chance = self.world.chance()
            if chance < self.faults.crash:
                self.die("at a call")
            elif chance < self._danger:
                self._aside()
        if not self.alive:
            raise Crash

    def _aside(self) -> None:
        world = self.world
        if world.depth >= _DEEPEST:
            return
        world.depth += 1
        seconds = world.between(0.0, 5.0) if world.chance() < 0.05 else world.between(0.0, 0.1)
        try:
            world.run(world.at + seconds)
        finally:
            world.depth -= 1

    def wait(self, seconds: float) -> None:
        """Let time pass within a call."""
        self.world.depth += 1
        try:
            self.world.run(self.world.at + seconds)
        finally:
            self.world.depth -= 1
        if not self.alive:
            raise Crash

    def die(self, how: str) -> None:
        """End the process."""
        if self.alive:
            self.world.note("the dispatcher dies", how)
            self.alive = False
            self._mailbox.clear()
            self.on_death()

    def freeze(self, seconds: float) -> None:
        """Stop the process for a while; what comes meanwhile waits."""
        if self.frozen_until > self.world.at:
            return
        self.world.note("the dispatcher", f"freezes for {seconds:.1f} s")
        self.frozen_until = self.world.at + seconds
        self.world.after(seconds, self._thaw)

    def _thaw(self) -> None:
        # Its threads go on in any order.
        if self.world.chance() < 0.5:
            self._loop(self._turn_due)
        mailbox, self._mailbox = self._mailbox, []
        for call in mailbox:
            if self.alive:
                call()
        if self.alive and not self._busy:
            self._schedule(0.02)

    # What others call.

    def report(self, task: str, attempt: int, reports: tuple[Report, ...]) -> Verdict | None:
        """Return what the dispatcher says to reports, or to a renewal where there are none; None for no answer."""
        if self.frozen_until > self.world.at:
            self._mailbox.append(lambda: self._quietly(lambda: self._report(task, attempt, reports)))
            return None
        try:
            return self._report(task, attempt, reports)
        except Crash as crash:
            raise Unavailable("It died.") from crash

    def _report(self, task: str, attempt: int, reports: tuple[Report, ...]) -> Verdict:
        if not reports:
            verdict = self.desk.renew(task, attempt)
        else:
            verdict = self.desk.report(task, attempt, reports)
            if isinstance(reports[-1].what, Outcome):
                self.wake()
        self.world.note("report", task, attempt, word(reports), verdict)
        return verdict

    def told(self, on_left: OnLeft, left: Left, handed: Handed) -> None:
        """Learn that an actor does not carry an attempt any more."""
        if not self.alive:
            return
        if self.frozen_until > self.world.at:
            self._mailbox.append(lambda: self.told(on_left, left, handed))
            return
        self.world.note("left", handed.task, handed.attempt, left)
        self._quietly(lambda: on_left(left))
        self.wake()

    def _quietly(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (Crash, Unavailable):
            return

    # Its turns.

    def wake(self) -> None:
        """Look at the store soon."""
        if not self.alive:
            return
        if self._busy:
            self._again = True
        elif self._turn_due > self.world.at + 0.02:
            self._schedule(0.02)

    def _schedule(self, seconds: float) -> None:
        self._turn_due = self.world.at + seconds
        self.world.after(seconds, self._loop, self._turn_due)

    def _loop(self, due: float) -> None:
        world = self.world
        if not self.alive or self._busy or due != self._turn_due or self.frozen_until > world.at:
            return
        self._busy, self._again = True, False
        pause = TURN_SECONDS
        try:
            term = self._store.lead()
            if term not in {None, self.recovered}:
                world.note("recover")
                self.desk.recover()
            self.recovered = term
            if term is not None:
                self.desk.turn()
            if self._again:
                pause = 0.02
        except Crash:
            return
        except SimyardError as error:
            world.note("a turn failed:", error)
        except Exception as error:  # noqa: BLE001 - it is what this looks for
            self.cluster.promises.fail(f"a turn failed by a defect: {error!r}")
        finally:
            self._busy = False
        self._schedule(pause)


class SimStore:
    """The store's twin behind a line that fails."""

    def __init__(self, world: World, inner: Any, promises: Promises) -> None:
        self.world = world
        self.inner = inner
        self.promises = promises
        self.down_until = 0.0

    def check(self, faults: Faults) -> None:
        """Fail before a call, or not."""
        if self.down_until > self.world.at or (faults.write_fails and self.world.chance() < faults.write_fails):
            raise StoreUnavailable("It does not answer.")

    def apply(self, task: str, stimulus: Stimulus, faults: Faults, earlier: Earlier = ()) -> TaskRecord:
        """Write as a client of the store does that has checked the line."""
        try:
            after: TaskRecord = self.inner.apply(task, stimulus, self.world.now(), earlier=earlier)
        finally:
            self._check_writes()
        self._answer(task, faults)
        return after

    def settle(self, now: Any, limit: int, faults: Faults) -> int:
        """Tell tasks that those which they wait for have ended."""
        count: int = self.inner.settle(now, limit)
        if self._check_writes():
            self._answer("those that wait", faults)
        return count

    def _check_writes(self) -> int:
        made, self.inner.made = self.inner.made, []
        for stimulus, before, after in made:
            self.world.note("write", before.id, stimulus, after.status)
            self.promises.wrote(before.id, stimulus, before, after)
        return len(made)

    def _answer(self, what: str, faults: Faults) -> None:
        if faults.write_times_out and self.world.chance() < faults.write_times_out:
            self.world.note("the write times out", what)
            raise StoreUnavailable("It did not answer in time.")


class WatchedStore(MemoryStore):
    """The twin, which keeps what each stimulus made of a task, until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Stimulus, TaskRecord, TaskRecord]] = []

    @property
    def is_unsettled(self) -> bool:
        """Say whether somebody is still to be told of an end."""
        return self._graph.unsettled() is not None

    def _step(self, record: TaskRecord, stimulus: Stimulus, now: Any) -> TaskRecord:
        after = super()._step(record, stimulus, now)
        self.made.append((stimulus, record, after))
        return after


class _Store:
    """The store as one process of the dispatcher has it."""

    def __init__(self, process: Process, store: SimStore) -> None:
        self._process = process
        self._store = store

    def lead(self) -> int | None:
        """Take the lead or go on with it, and return the term in which this process may act; None for none."""
        process = self._process
        if process.lead is None:
            return _ONLY_TERM
        process.step()
        self._store.check(process.faults)
        return process.lead.take(LEASE)

    def get(self, task: str) -> TaskRecord:
        self._process.step()
        self._store.check(self._process.faults)
        return self._store.inner.get(task)  # type: ignore[no-any-return]

    def rules(self, now: Any) -> Rules:
        self._process.step()
        self._store.check(self._process.faults)
        self._process.rules = self._store.inner.rules(now)
        return self._process.rules

    def settle(self, now: Any, limit: int) -> int:
        self._process.step()
        self._store.check(self._process.faults)
        if self._process.lead is not None and self._store.inner.is_unsettled:
            self._process.lead.check()
        with self._store.promises.said_by(self._process):
            return self._store.settle(now, limit, self._process.faults)

    def overdue(self, now: Any, limit: int) -> list[TaskRecord]:
        self._process.step()
        self._store.check(self._process.faults)
        return self._store.inner.overdue(now, limit)  # type: ignore[no-any-return]

    def active(self) -> list[TaskRecord]:
        self._process.step()
        self._store.check(self._process.faults)
        return self._store.inner.active()  # type: ignore[no-any-return]

    def queue(self, now: Any, limit: int) -> list[TaskRecord]:
        self._process.step()
        self._store.check(self._process.faults)
        return self._store.inner.queue(now, limit)  # type: ignore[no-any-return]

    def earlier_results(self, tasks: Sequence[str]) -> dict[str, TaskRecord]:
        self._process.step()
        self._store.check(self._process.faults)
        if self._store.promises.results is not None:
            self._store.promises.results.looks(tasks)
        return self._store.inner.earlier_results(tasks)  # type: ignore[no-any-return]

    def inputs(self, task: str) -> tuple[InputFile, ...]:
        self._process.step()
        self._store.check(self._process.faults)
        return self._store.inner.inputs(task)  # type: ignore[no-any-return]

    def apply(self, task: str, stimulus: Stimulus, now: Any, *, earlier: Earlier = ()) -> TaskRecord:
        process = self._process
        process.step()
        self._store.check(process.faults)
        if process.lead is not None and isinstance(stimulus, DECISIONS):
            process.lead.check()
        try:
            with self._store.promises.said_by(process):
                after = self._store.apply(task, stimulus, process.faults, earlier)
        except Refused as refused:
            process.world.note("refused", task, stimulus, refused)
            raise
        process.step()
        return after


class _Objects:
    """The storage as the dispatcher has it: it is asked only whether an attempt's outputs are there."""

    uri = "memory://simulated"

    def __init__(self, process: Process, cluster: Cluster) -> None:
        self._process = process
        self._cluster = cluster

    def _check(self) -> None:
        process = self._process
        process.step()
        faults = process.faults
        if self._cluster.storage_down_until > process.world.at or (
            faults.storage_fails and process.world.chance() < faults.storage_fails
        ):
            if (results := self._cluster.promises.results) is not None:
                results.storage_fails()
            raise StorageUnavailable("It does not answer.")

    def _find(self, key: str) -> tuple[tuple[str, int], Outcome | None]:
        _, task, attempt, _ = key.split("/")
        place = (task, int(attempt))
        found = self._cluster.promises.manifests.get(place)
        return place, found[0] if found else None

    def head(self, key: str) -> ObjectInfo | None:
        self._check()
        place, outcome = self._find(key)
        assert key == Paths.manifest(*place)
        world = self._process.world
        world.note("looks for the result of", *place)
        self._cluster.promises.looked[place] = world.steps
        return None if outcome is None else ObjectInfo(key=key, size=1, modified=BEGIN)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self._check()
        _, outcome = self._find(key)
        if outcome is None:
            raise ObjectNotFound(key)
        return outcome.model_dump_json().encode()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._check()
        kept = self._cluster.promises.kept
        assert kept is not None, "only what was kept is looked for"
        return kept.shelf.list(prefix)  # type: ignore[no-any-return]

    def delete(self, keys: Iterable[str]) -> None:
        self._check()
        kept, wanted = self._cluster.promises.kept, tuple(keys)
        assert kept is not None, "only what was kept is removed"
        kept.removes(wanted)
        kept.shelf.delete(wanted)


class _Holders:
    """The actors as one process of the dispatcher has them."""

    def __init__(self, process: Process, cluster: Cluster) -> None:
        self._process = process
        self._cluster = cluster
        self._known: set[str] = set()

    def machines(self) -> tuple[Host, ...]:
        self._process.step()
        listed = [machine.host for machine in self._cluster.machines.values() if machine.listed]
        return tuple(sorted(listed, key=lambda host: host.id))

    def departed(self) -> frozenset[str]:
        self._process.step()
        return frozenset(self._cluster.departed)

    def start(self, kind: Kind, host: str) -> str:
        self._process.step()
        name = self._cluster.start(kind, host).name
        self._known.add(name)
        self._process.step()
        return name

    def _reach(self, name: str) -> Actor | None:
        return self._cluster.actors[name] if name in self._known else None

    def adopt(self, name: str, work: Work, left: OnLeft) -> None:
        self._cluster.promises.taken_over(work.task, work.attempt)
        self._give(name, work, left, adopting=True)

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        self._give(name, work, left, adopting=False)

    def _give(self, name: str, work: Work, left: OnLeft, *, adopting: bool) -> None:
        process, world = self._process, self._process.world
        process.step()
        actor = self._reach(name)
        if actor is None:
            left(Gone())
            return
        handed = Handed(work.task, work.attempt, left, process, adopting)
        if not adopting:
            self._cluster.promises.handed(work.task, work.attempt)
            actor.others = tuple(one.node for one in work.others)
            if actor.is_given is None:
                actor.is_given = True
                self._cluster.promises.given(actor, self._cluster)
        else:
            actor.is_given = False
        faults = process.faults
        chance = world.chance()
        if actor.machine.cut_until > world.at or chance < faults.hand_over_lost:
            world.note("hand-over lost", work.task, work.attempt, name)
            return
        chance -= faults.hand_over_lost
        if chance < faults.hand_over_late:
            world.after(world.between(0.5, 120.0), self._cluster.take, actor, handed)
            return
        chance -= faults.hand_over_late
        if faults.unreachable and world.chance() < faults.unreachable:
            handed = Handed(work.task, work.attempt, lambda _: None, process, adopting)
            world.after(world.around(3.0), self._cluster.unreachable, actor, handed, left)
        if chance < faults.hand_over_doubled:
            world.note("hand-over doubled", work.task, work.attempt, name)
            world.after(world.between(0.0, 30.0), self._cluster.take, actor, handed)
        world.note("takeover" if adopting else "hand-over", work.task, work.attempt, name)
        self._cluster.take(actor, handed)
        process.step()

    def watch(self, name: str, task: str, attempt: int, left: OnLeft) -> None:
        self._process.step()
        actor = self._reach(name)
        if actor is None:
            left(Gone())
            return
        self._cluster.watch(actor, Handed(task, attempt, left, self._process))

    def cancel(self, name: str, task: str, attempt: int) -> None:
        process = self._process
        process.step()
        actor = self._reach(name)
        if actor is None or actor.machine.cut_until > process.world.at:
            return
        if process.faults.cancel_lost and process.world.chance() < process.faults.cancel_lost:
            return
        self._cluster.cancel(actor, task, attempt)

    def end(self, name: str) -> None:
        self._process.step()
        if name in self._known:
            self._known.discard(name)
            self._cluster.end(name)

    def ask(self) -> Mapping[str, HolderState | None]:
        process, world = self._process, self._process.world
        process.step()
        states: dict[str, HolderState | None] = {}
        for actor in list(self._cluster.actors.values()):
            if not actor.alive or actor.declared_dead:
                continue
            self._known.add(actor.name)
            if actor.is_given is None:
                # The dispatcher that died may have started it for a takeover.
                actor.is_given = False
            lost = world.chance() < process.faults.state_lost
            if lost or not actor.up or actor.frozen_until > world.at or actor.machine.cut_until > world.at:
                world.note("silent", actor.name)
                states[actor.name] = None
                continue
            states[actor.name] = HolderState(
                host=actor.machine.host.id, kind=actor.kind, carries=actor.carries, others=actor.others
            )
            if actor.run is not None:
                actor.run.heard = world.at
        if None in states.values():
            process.wait(_ASK_SECONDS)
        process.step()
        return states


__all__ = ["MakeDesk", "Process", "PromiseBroken", "SimStore", "WatchedStore"]
