"""Whatever is asked of them, the store in memory and each one on disk give the same answers."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from simulators.outcome import Outcome
from simyard.errors import SimyardError
from simyard.reason import ReasonCode
from simyard.resources import Limits
from simyard.status import Status
from tasks.lifecycle import (
    Adopt,
    Cancel,
    End,
    Expire,
    Forgive,
    Hold,
    Lost,
    OutputsRemoved,
    Progress,
    Release,
    Renew,
    Stalled,
    Stimulus,
    Undelivered,
    Wait,
)
from tasks.memory import MemoryStore
from tasks.record import TaskQuery
from tasks.rules import Pause, Quota
from tasks.store import Store, open_store
from tests.services.postgres import PostgresServer
from tests.unit.tasks.samples import NOW, dispatch, draft, failed, later, reason

# A stimulus names its attempt by its distance from the newest one.
HOLDERS = st.sampled_from(["sim-1", "sim-1", "sim-2"])
ATTEMPTS = st.sampled_from([0, 0, 0, 0, -1, 1])
REASONS = st.sampled_from([ReasonCode.EXIT_CODE, ReasonCode.MACHINE_LOST, ReasonCode.PREEMPTED]).map(reason)
STIMULI: st.SearchStrategy[Stimulus] = st.one_of(
    st.just(dispatch()),
    st.builds(Progress, ATTEMPTS, st.sampled_from(list(Status))),
    st.builds(Renew, ATTEMPTS, st.integers(0, 100).map(later)),
    st.builds(Adopt, ATTEMPTS, HOLDERS, HOLDERS, st.integers(0, 100).map(later)),
    st.builds(
        End,
        ATTEMPTS,
        st.builds(
            Outcome,
            status=st.sampled_from(list(Status)),
            reason=REASONS,
            stored=st.booleans(),
            output_bytes=st.sampled_from([None, 0, 5]),
        ),
    ),
    st.builds(Lost, ATTEMPTS, REASONS, st.none() | HOLDERS),
    st.builds(Undelivered, ATTEMPTS),
    st.builds(Stalled, ATTEMPTS, st.integers(1, 3)),
    st.builds(Forgive, ATTEMPTS),
    st.just(Expire()),
    st.just(OutputsRemoved()),
    st.just(Cancel()),
    st.sampled_from([Hold(), Hold(), Release()]),
    st.builds(Wait, REASONS),
)

NAMES = st.sampled_from([None, "ada"])
COUNTS = st.sampled_from([0.0, 2.5])


class Stores(RuleBasedStateMachine):
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.memory = MemoryStore()
        self.durable = self.open()
        self.opened.callback(self.durable.close)
        self.now = NOW

    def open(self) -> Store:
        """Return an empty store on disk; what must be undone later goes into `opened`."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.opened.close()

    def both(self, name: str, *arguments: Any, **more: Any) -> Any:
        answers = []
        for store in (self.memory, self.durable):
            try:
                answer = getattr(store, name)(*arguments, **more)
            except SimyardError as error:
                answer = (type(error), str(error), getattr(error, "duplicate", None))
            answers.append(_comparable(answer))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(
        target=ids,
        fields=st.lists(
            st.fixed_dictionaries(
                {
                    "key": st.sampled_from([None, "k1", "k2"]),
                    "digest": st.sampled_from(["d1", "d2"]),
                    "user": st.sampled_from(["ada", "bob"]),
                    "project": st.sampled_from(["default", "p"]),
                    "group": st.sampled_from(["local", "local", "cloud"]),
                    "priority": st.integers(-1, 1),
                    "retries": st.integers(0, 2),
                    "name": st.sampled_from([None, "n", "m"]),
                    "limits": st.sampled_from([Limits(), Limits(queue=0.000003), Limits(queue=2.5)]),
                }
            ),
            max_size=4,
        ),
        atomic=st.booleans(),
    )
    def submit(self, fields: list[dict[str, Any]], atomic: bool) -> Any:
        drafts = [draft(**one) for one in fields]
        self.both("submit", drafts, self.now, atomic=atomic)
        return multiple(*(one.id for one in drafts))

    @rule(task=ids, stimulus=STIMULI, seconds=st.integers(0, 5))
    def apply(self, task: str, stimulus: Stimulus, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.both("apply", task, self.aimed(task, stimulus), self.now)

    def aimed(self, task: str, stimulus: Any) -> Any:
        if hasattr(stimulus, "attempt") and task in {record.id for record in self.memory.list(TaskQuery())}:
            return replace(stimulus, attempt=self.memory.get(task).attempt + stimulus.attempt)
        return stimulus

    @rule(task=ids, stimulus=STIMULI, earlier=st.lists(st.tuples(STIMULI, st.integers(-5, 0).map(later)), max_size=3))
    def apply_together(self, task: str, stimulus: Stimulus, earlier: list[tuple[Stimulus, datetime]]) -> None:
        came = [(self.aimed(task, one), at) for one, at in earlier]
        self.both("apply", task, self.aimed(task, stimulus), self.now, earlier=came)

    @rule(
        task=ids,
        outcome=st.sampled_from([None, failed(), failed(ReasonCode.MACHINE_LOST)]),
        price=st.sampled_from([None, 0.0, 0.1, 3.6]),
        days=st.sampled_from([0, 0, 20]),
    )
    def attempt(self, task: str, outcome: Outcome | None, price: float | None, days: int) -> None:
        self.both("apply", task, replace(dispatch(), usd_per_hour=price), self.now)
        self.now += timedelta(days=days)
        self.apply(task, Progress(0, Status.RUNNING), 1)
        if outcome is not None:
            self.apply(task, End(0, outcome), 1)

    @rule(verb=st.sampled_from(["pause", "resume"]), user=NAMES, project=NAMES, group=NAMES)
    def pause(self, verb: str, user: str | None, project: str | None, group: str | None) -> None:
        self.both(verb, Pause(user=user, project=project, group=group))

    @rule(
        user=st.sampled_from(["ada", "bob"]),
        project=NAMES,
        running=st.sampled_from([None, 2]),
        cpus=st.none() | COUNTS,
        storage=st.sampled_from([None, 7]),
        costs=st.sampled_from([{}, {"usd_per_hour": 0.25}, {"usd_per_month": 10.0}]),
    )
    def quota(
        self,
        user: str,
        project: str | None,
        running: int | None,
        cpus: float | None,
        storage: int | None,
        costs: dict[str, float],
    ) -> None:
        limits: dict[str, Any] = {"running": running, "cpus": cpus, "storage": storage} | costs
        self.both("set_quota", Quota(user=user, project=project, **limits))

    @rule(task=ids)
    def forget(self, task: str) -> None:
        self.both("forget", task)

    @rule(task=ids)
    def look(self, task: str) -> None:
        self.both("get", task)
        self.both("inputs", task)
        self.both("position", task)
        self.both("events", task=task, after=3, limit=4)

    @rule(
        status=st.none() | st.sampled_from(list(Status)),
        name=st.sampled_from([None, "n"]),
        user=st.sampled_from([None, "ada"]),
        before=st.none() | st.integers(0, 20),
        limit=st.integers(-1, 5),
    )
    def page(self, status: Status | None, name: str | None, user: str | None, before: int | None, limit: int) -> None:
        self.both("list", TaskQuery(status=status, name=name, user=user, before=before, limit=limit))

    @invariant()
    def same(self) -> None:
        self.both("list", TaskQuery())
        self.both("queue", self.now, 100)
        self.both("queue", self.now, 3)
        self.both("runs", "swmm", 3)
        self.both("lanes")
        self.both("queued")
        self.both("rules", self.now)
        self.both("next_ready", self.now)
        self.both("overdue", self.now, 100)
        self.both("active")
        self.both("counts")
        self.both("stored")
        self.both("spent", self.now)
        self.both("spent", self.now, "ada")
        self.both("ended", self.now, 100, with_outputs=True)
        self.both("events")


def _comparable(answer: Any) -> Any:
    """Errors that stand in answers are equal when they say the same."""
    if isinstance(answer, list):
        return [_comparable(one) for one in answer]
    if hasattr(answer, "created"):
        return (answer.record, answer.created, type(answer.error), str(answer.error))
    return answer


class SqliteStores(Stores):
    def open(self) -> Store:
        folder = self.opened.enter_context(tempfile.TemporaryDirectory())
        return open_store(Path(folder) / "simyard.db")


class PostgresStores(Stores):
    server: ClassVar[PostgresServer]

    def open(self) -> Store:
        return open_store(self.server.url(self.opened.enter_context(self.server.database())))


class TestSqlite(SqliteStores.TestCase):
    settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class TestPostgres(PostgresStores.TestCase):
    settings = settings(max_examples=10, stateful_step_count=20, deadline=None)

    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def _server(postgres_server: PostgresServer) -> None:
        PostgresStores.server = postgres_server
