"""Attempts that keep snapshots for a next one, and machines that are taken away with notice."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from simulators.work import News
from simyard.checkpoint import Checkpoint, Snapshot
from storage.objects import ObjectInfo
from storage.paths import Paths
from storage.snapshots import complete_snapshots, last_number, prune_snapshots
from tasks.holders import Verdict
from tasks.record import Draft, TaskRecord
from tasks.stimulus import Tell
from tests.simulation.world import BEGIN, World

if TYPE_CHECKING:
    from tests.simulation.actors import Cluster, Run, SimMachine
    from tests.simulation.promises import Promises

Which = tuple[int, int]


class Shelf:
    """The snapshots in the storage, as far as it is asked for them; every call does what it says."""

    def __init__(self) -> None:
        self._keys: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, key: str) -> None:
        """Store an object."""
        self._keys[_task_of(key)].add(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Give what is there of a task."""
        return (ObjectInfo(key=key, size=1, modified=BEGIN) for key in sorted(self._keys[_task_of(prefix)]))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        for key in keys:
            self._keys[_task_of(key)].discard(key)


def _task_of(key: str) -> str:
    return key.split("/")[1]


class Kept:
    """The books of snapshots, and the promises about them."""

    def __init__(self, promises: Promises) -> None:
        self.promises = promises
        self.shelf: Any = Shelf()
        self._complete: set[tuple[str, Which]] = set()
        self._told: dict[str, Which] = {}
        """The newest snapshot of each task that the store knows of."""
        self._resumed: dict[tuple[str, int], Which] = {}

    def completed(self, task: str, which: Which) -> None:
        """Take note that a snapshot is complete."""
        self._complete.add((task, which))

    def resumes(self, run: Run, which: Which | None) -> None:
        """Check that an attempt goes on from a complete snapshot, and from none that is older than what was told."""
        record = self.promises.lives[run.task].record
        if which is not None:
            self._resumed[run.task, run.attempt] = which
            if (run.task, which) not in self._complete or which[0] > run.attempt:
                self.promises.fail(f"attempt {run.attempt} of {run.task} goes on from {which}, which is not complete")
        told = self._told.get(run.task)
        if told is None or record is None or record.status.is_end or record.attempt != run.attempt:
            return
        if which is None or which < told:
            self.promises.fail(f"attempt {run.attempt} of {run.task} goes back to {which}, and {told} had been told")

    def told(self, stimulus: Tell, before: TaskRecord, after: TaskRecord) -> None:
        """Check that what is said of an attempt's snapshots only goes forward, and is so."""
        was, is_ = before.task.attempts[-1], after.task.attempts[-1]
        if was.snapshot is not None and (is_.snapshot is None or is_.snapshot.number < was.snapshot.number):
            self.promises.fail(f"{before.id} had {was.snapshot} and has {is_.snapshot} after {stimulus}")
        if (made := stimulus.news.made) is not None:
            which = made.attempt, made.number
            if (before.id, which) not in self._complete or made.attempt != before.attempt:
                self.promises.fail(f"{before.id} was told of {which}, which it has not made")
            self._told[before.id] = max(which, self._told.get(before.id, which))
        if (resumed := is_.resumed_from) is not None:
            which = resumed.attempt, resumed.number
            if which != self._resumed.get((before.id, is_.number)):
                self.promises.fail(f"{before.id} says that attempt {is_.number} goes on from {which}, which is not so")

    def removes(self, keys: Iterable[str]) -> None:
        """Check that the dispatcher removes the snapshots of tasks alone that have ended."""
        for task in {_task_of(key) for key in keys}:
            if task in self.promises.open:
                self.promises.fail(f"the snapshots of {task}, which has not ended, are removed")


class Checkpointing:
    """What becomes of snapshots in one world; drawn from a source of its own."""

    def __init__(self, world: World, cluster: Cluster, promises: Promises) -> None:
        self.world, self._cluster = world, cluster
        self.books = promises.kept = Kept(promises)
        self._promises = promises
        self.random = random.Random(f"{world.seed} checkpoints")
        self._every = self.random.choice([0.3, 1.0, 3.0])
        self._stopped = False
        self._notices = self.random.choice([15.0, 40.0])
        world.after(self.random.expovariate(1.0 / self._notices), self._take_away)

    def shared(self, draft: Draft) -> Draft:
        """Return the draft as one of which mostly something is kept."""
        kept = Checkpoint(files=("*.restart",), every=10.0) if self.random.random() < 0.8 else None
        return draft._replace(spec=draft.spec.model_copy(update={"checkpoint": kept}))

    def stop(self) -> None:
        """Take no machine away any more."""
        self._stopped = True

    # What an attempt does beside its run.

    def begins(self, run: Run) -> None:
        """Go on from the newest snapshot that there is, and begin to keep some."""
        if not self._keeps(run):
            return
        if run.attempt > 1:
            found = complete_snapshots(self.books.shelf, run.task)
            self.books.resumes(run, found[0] if found else None)
            if found:
                self.world.note("attempt", run.task, run.attempt, "goes on from", found[0])
                self._cluster.tells(run, News(message="It goes on.", resumed_from=self._snapshot(found[0])))
        self.goes_on(run)

    def goes_on(self, run: Run) -> None:
        """Keep the next snapshot after a while."""
        if self._keeps(run):
            self._cluster.later(self.random.expovariate(1.0 / self._every), run, self._copies)

    def _keeps(self, run: Run) -> bool:
        return self._promises.lives[run.task].draft.spec.checkpoint is not None

    def _snapshot(self, which: Which) -> Snapshot:
        return Snapshot(attempt=which[0], number=which[1], at=self.world.now(), files=1, size=1)

    def _copies(self, run: Run, *, last: bool = False) -> None:
        if run.stage != "running":
            return
        if self._cluster.storage_down_until > self.world.at:
            self.goes_on(run)
            return
        number = last_number(self.books.shelf, run.task, run.attempt) + 1
        self.books.shelf.put(Paths.below(run.task, run.attempt, f"{Paths.snapshot_name(number)}pack-0000.zip"))
        act = self._commits if last else self._confirms
        self._cluster.later(self.random.uniform(0.0, 1.0), run, partial(act, number))

    def _confirms(self, number: int, run: Run) -> None:
        """Ask whether the attempt is still the current one: a process that was frozen has been replaced."""
        verdict = self._cluster.deliver(run, ())
        if verdict is Verdict.TAKEN:
            self._cluster.later(self.random.uniform(0.0, 0.2), run, partial(self._commits, number))
        elif verdict is None:
            self._cluster.later(self.random.uniform(0.5, 5.0), run, partial(self._confirms, number))

    def _commits(self, number: int, run: Run) -> None:
        if run.stage != "running":
            return
        which = run.attempt, number
        self.books.shelf.put(Paths.manifest(run.task, run.attempt, number))
        self.books.completed(run.task, which)
        self.world.note("attempt", run.task, run.attempt, "has kept snapshot", number)
        self._cluster.tells(run, News(message="There is a snapshot.", made=self._snapshot(which)))
        prune_snapshots(self.books.shelf, run.task, which)
        self.goes_on(run)

    # Machines.

    def _take_away(self) -> None:
        """Tell a machine that it has to go; what runs there keeps a last snapshot, whoever leads it by then."""
        if self._stopped:
            return
        machines = [machine for machine in self._cluster.machines.values() if machine.alive]
        if machines:
            machine = self.random.choice(machines)
            self.world.note("machine", machine.host.id, "is told to go")
            machine.host = replace(machine.host, is_leaving=True)
            for actor in machine.actors.values():
                if actor.run is not None and self._keeps(actor.run):
                    self._cluster.later(0.0, actor.run, partial(self._copies, last=True))
            self.world.after(self.random.uniform(0.2, 20.0), self._goes, machine)
        self.world.after(self.random.expovariate(1.0 / self._notices), self._take_away)

    def _goes(self, machine: SimMachine) -> None:
        self._cluster.kill_machine(machine, silent=self.random.random() < 0.5)
