"""Users who share the machines: they chain tasks, hold and release them, pause projects and groups and are limited."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simyard.dependency import Dependency, DependencyEnd, IfDependencyFails
from simyard.errors import SimyardError
from tasks.lifecycle import Hold, Release
from tasks.record import Draft
from tasks.rules import Pause, Quota

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.process import SimStore
    from tests.simulation.promises import Promises
    from tests.simulation.world import World

_RECENT = 30
_RELEASES_EVERY = 15.0
_PROJECTS = ("default", "default", "nightly")


class Sharing:
    """What such users do in one world; drawn from a source of its own, so that worlds without them stay as they were.

    `faults` gives the faults of the moment, and `wake` tells the dispatcher that there is news.
    """

    def __init__(
        self,
        world: World,
        store: SimStore,
        promises: Promises,
        groups: Sequence[str],
        faults: Callable[[], Faults],
        wake: Callable[[], None],
    ) -> None:
        self.world, self.store, self.promises = world, store, promises
        self.random = random.Random(f"{world.seed} shared")
        self._groups, self._faults, self._wake = groups, faults, wake
        self._sent: defaultdict[str, deque[Draft]] = defaultdict(lambda: deque(maxlen=_RECENT))
        # Drawn by themselves, so that worlds without such quotas stay as they were.
        self._costs = random.Random(f"{world.seed} costs")
        self._has_costs = self._costs.random() < 0.5
        self._chained = self.random.choice([0.0, 0.2, 0.6])
        self._stopped = False
        for act in (self._hold, self._pause, self._limit):
            if every := self.random.choice([0.0, 10.0, 40.0]):
                self._later(every, act)
        world.after(_RELEASES_EVERY, self._release)

    def shared(self, draft: Draft) -> Draft:
        """Return the draft in some project, and sometimes with earlier tasks that it waits for."""
        chance = self.random
        more: dict[str, object] = {"project": chance.choice(_PROJECTS)}
        known = [one for one in self._sent[draft.user] if self.promises.lives[one.id].record is not None]
        if known and chance.random() < self._chained:
            parents = chance.sample(known, min(len(known), chance.choice([1, 1, 2, 3])))
            more["after"] = tuple(self._dependency(parent) for parent in parents)
            more["if_dependency_fails"] = chance.choice(list(IfDependencyFails))
        found = draft._replace(spec=draft.spec.model_copy(update=more))
        self._sent[draft.user].append(found)
        return found

    def stop(self) -> None:
        """Lift every pause and quota; from now on tasks are only released."""
        self._stopped = True
        rules = self.store.inner.rules(self.world.now())
        for pause in rules.pauses:
            self.store.inner.resume(pause)
        for quota in rules.quotas:
            self.store.inner.set_quota(Quota(user=quota.user, project=quota.project))
        self._wake()

    def _dependency(self, parent: Draft) -> Dependency:
        end = self.random.choice([DependencyEnd.SUCCESS, DependencyEnd.SUCCESS, DependencyEnd.ANY])
        if parent.key is not None and self.random.random() < 0.3:
            return Dependency(key=parent.key, end=end)
        return Dependency(task=parent.id, end=end)

    def _later(self, every: float, act: Callable[[], None]) -> None:
        self.world.after(self.random.expovariate(1.0 / every), self._again, every, act)

    def _again(self, every: float, act: Callable[[], None]) -> None:
        if not self._stopped:
            act()
            self._later(every, act)

    def _hold(self) -> None:
        open_ones = [life.draft.id for life in self.promises.open_ones()]
        if open_ones:
            self._apply(self.random.choice(open_ones), Hold())

    def _pause(self) -> None:
        user = self.random.choice([None, "ada", "bob"])
        pause = Pause(user=user, project=self.random.choice(_PROJECTS))
        if self.random.random() < 0.4:
            pause = Pause(group=self.random.choice(self._groups))
        self.world.note("paused", pause)
        self.store.inner.pause(pause)
        self.world.after(self.random.uniform(1.0, 60.0), self._resume, pause)

    def _resume(self, pause: Pause) -> None:
        self.world.note("resumed", pause)
        self.store.inner.resume(pause)
        self._wake()

    def _limit(self) -> None:
        user, project = self.random.choice(["ada", "bob"]), self.random.choice([None, "nightly"])
        running, cpus = self.random.choice([(0, None), (1, None), (3, None), (None, 2.0), (2, 1.5), (None, None)])
        hourly = self._costs.choice([None, None, None, 0.5, 2.0]) if self._has_costs else None
        quota = Quota(user=user, project=project, running=running, cpus=cpus, usd_per_hour=hourly)
        self.world.note("limited", quota)
        self.store.inner.set_quota(quota)

    def _release(self) -> None:
        """Release whatever is held; some stay so a little longer."""
        held = [life.draft.id for life in self.promises.open_ones() if life.record.task.held]
        for task in held:
            if self._stopped or self.random.random() < 0.5:
                self._apply(task, Release())
        self.world.after(_RELEASES_EVERY, self._release)

    def _apply(self, task: str, stimulus: Hold | Release) -> None:
        try:
            self.store.check(self._faults())
            self.store.apply(task, stimulus, self._faults())
        except SimyardError:
            return
        self._wake()
