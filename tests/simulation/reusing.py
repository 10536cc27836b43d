"""Users who let tasks have the results of earlier ones, remove outputs and forget tasks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from simyard.errors import Conflict, NotFound, SimyardError
from simyard.status import Status
from tasks import reuse
from tasks.record import Draft, TaskRecord
from tasks.stimulus import OutputsRemoved, Reused

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.process import SimStore
    from tests.simulation.promises import Life, Promises
    from tests.simulation.world import World


class Results:
    """The books of what may be reused, and the promises about it."""

    def __init__(self, promises: Promises) -> None:
        self.promises = promises
        self.withdrawn: set[str] = set()
        self._could: dict[str, str] = {}
        """Tasks for which the dispatcher has last looked for results, and one that each of them may have."""

    def why_not(self, life: Life, source: Life) -> str | None:
        """Return why a task may not have an earlier one's result; None where it may."""
        mine, other, record = life.draft, source.draft, source.record
        if record is None or source.is_forgotten or other.id in self.withdrawn:
            return "it is not there any more"
        if record.status is not Status.SUCCEEDED or record.task.reused_from is not None:
            return f"it is {record.status} and has the result of {record.task.reused_from}"
        if mine.user != other.user:
            return f"it is {other.user}'s"
        if mine.fingerprint is None or mine.fingerprint != other.fingerprint:
            return "it did something else"
        return None

    def looks(self, tasks: Iterable[str]) -> None:
        """Take note that the dispatcher looks which results tasks could have."""
        lives = self.promises.lives
        sources = [life for life in lives.values() if life.draft.fingerprint is not None]
        found = {task: [one for one in sources if self.why_not(lives[task], one) is None] for task in tasks}
        self._could = {task: ones[-1].draft.id for task, ones in found.items() if ones}

    def storage_fails(self) -> None:
        """Take note that the dispatcher cannot know whether results are there: then all is computed."""
        self._could = {}

    def took(self, life: Life, stimulus: Reused, after: TaskRecord) -> None:
        """Check that a task has the result of an earlier one that it may have, and that is there."""
        source = self.promises.lives[stimulus.source]
        if (why := self.why_not(life, source)) is not None:
            self.promises.fail(f"{life.draft.id} has the result of {stimulus.source}, and {why}")
        assert source.record is not None
        if (after.task.reused_from, after.task.result) != (stimulus.source, source.record.task.result):
            self.promises.fail(
                f"{life.draft.id} names another result than that of {stimulus.source}: {after.task.result}"
            )
        if not life.draft.spec.reuse:
            self.promises.fail(f"{life.draft.id} does not want an earlier result and has one")

    def starts(self, life: Life) -> None:
        """Check that nothing is computed whose result was there when the dispatcher looked, and still is."""
        source = self._could.get(life.draft.id)
        if source is not None and self.why_not(life, self.promises.lives[source]) is None:
            self.promises.fail(f"{life.draft.id} is computed, and {source} did the same")

    def withdrew(self, task: str) -> None:
        """Check that nobody needs a result that is about to be removed."""
        self.withdrawn.add(task)
        for name, life in self.promises.lives.items():
            record = life.record
            if record is not None and not life.is_forgotten and record.task.reused_from == task:
                self.promises.fail(f"the result of {task} is removed, and {name} has it")


class Reusing:
    """What such users do in one world; drawn from a source of its own."""

    def __init__(self, world: World, store: SimStore, promises: Promises, faults: Callable[[], Faults]) -> None:
        self.world, self.store, self.promises, self._faults = world, store, promises, faults
        self.books = promises.results = Results(promises)
        self.random = random.Random(f"{world.seed} reuse")
        self._kinds = self.random.choice([3, 10, 40])
        if every := self.random.choice([0.0, 1.0, 5.0]):
            self._every = every
            self._later()

    def shared(self, draft: Draft) -> Draft:
        """Return the draft as one that does the same as others, and mostly wants the result that they have."""
        spec = draft.spec.model_copy(update={"reuse": self.random.random() < 0.7})
        kind = self.random.randrange(self._kinds)
        return draft._replace(spec=spec, fingerprint=f"kind-{kind}" if self.random.random() < 0.9 else None)

    def _later(self) -> None:
        self.world.after(self.random.expovariate(1.0 / self._every), self._again)

    def _again(self) -> None:
        ended = [life for life in self.promises.lives.values() if life.has_ended and not life.is_forgotten]
        if ended:
            self._remove(self.random.choice(ended))
        self._later()

    def _remove(self, life: Life) -> None:
        """Withdraw a result; its outputs go a moment later, and sometimes the task with them."""
        task = life.draft.id
        try:
            self.store.check(self._faults())
            self.store.inner.withdraw(task)
        except SimyardError:
            return
        self.world.note("withdrawn", task)
        self.books.withdrew(task)
        whole = self.random.random() < 0.4
        self.world.after(self.random.uniform(0.0, 5.0), self._goes, life, whole)

    def _goes(self, life: Life, whole: bool) -> None:
        task = life.draft.id
        for key in [key for key in self.promises.manifests if key[0] == task]:
            del self.promises.manifests[key]
        try:
            self.store.check(self._faults())
            if whole:
                self._forget(life)
            else:
                self.store.apply(task, OutputsRemoved(), self._faults())
        except NotFound:
            return
        except SimyardError:
            self.world.after(1.0, self._goes, life, whole)

    def _forget(self, life: Life) -> None:
        try:
            self.store.inner.forget(life.draft.id)
        except Conflict:  # a task that came meanwhile waits for it
            self.store.apply(life.draft.id, OutputsRemoved(), self._faults())
            return
        self.world.note("forgotten", life.draft.id)
        self.promises.forgot(life)


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """Let the storage be asked without threads, as the world has only one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "each", lambda act, items, threads: [act(item) for item in items])
        yield
