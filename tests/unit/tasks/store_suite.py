"""What every store of tasks must do, whatever it is made of."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cluster.group_record import new_record
from cluster.ledger import Rental
from simulators.work import News
from simyard.checkpoint import Checkpoint, Snapshot
from simyard.errors import Conflict, InvalidInput, NotFound
from simyard.event import EventKind
from simyard.files import InputFile
from simyard.group import GroupSpec
from simyard.reason import ReasonCode
from simyard.resources import GIB, Limits
from simyard.retry import Retry
from simyard.simulator import Command
from simyard.status import Status
from simyard.words import new_sweep_id
from tasks.errors import Refused, StoreUnavailable
from tasks.history import MAX_EVENTS, MAX_REFUSALS
from tasks.keys import new_key
from tasks.ledger import RentalQuery
from tasks.lifecycle import (
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
    Reused,
    Stalled,
    Tell,
    Wait,
)
from tasks.record import Draft, Lane, SweepQuery, TaskQuery, TaskRecord
from tasks.retention import Retention
from tasks.rules import Account, Pause, Quota, Rules
from tasks.store import Store
from tests.unit.tasks.dependency_suite import DependencySuite
from tests.unit.tasks.samples import INPUTS, NOW, WEIRD, case, dispatch, draft, failed, later, reason, succeeded, sweep

UNKNOWN = "t000000000000"
ENDLESS = 10**6


def accept(store: Store, *drafts: Draft) -> list[TaskRecord]:
    records = []
    for answer in store.submit(drafts, NOW):
        assert answer.record is not None
        assert answer.created
        records.append(answer.record)
    return records


def make(store: Store, **fields: Any) -> TaskRecord:
    [record] = accept(store, draft(**fields))
    return record


def succeed(store: Store, *, size: int | None = None, **fields: Any) -> str:
    """Submit a task and carry it to success, with so many bytes of outputs; returns its id."""
    task = make(store, **fields).id
    store.apply(task, dispatch(), NOW)
    store.apply(task, Progress(1, Status.FINALIZING), NOW)
    store.apply(task, End(1, succeeded().model_copy(update={"output_bytes": size})), later(5))
    return task


def rental(name: str, **fields: Any) -> Rental:
    """Return a machine of the ledger."""
    known: dict[str, Any] = {"group": "cloud", "machine_type": "m5.large", "market": "spot", "zone": "a"}
    return Rental(
        **(known | {"id": name, "launched_at": NOW, "last_seen_at": later(1), "price_per_hour": 0.5} | fields)
    )


def submit_sweep(store: Store, cases: int) -> list[str]:
    """Submit a sweep and return the ids of its tasks."""
    sent = sweep()
    drafts = [draft(case=case(sent, n)) for n in range(1, cases + 1)]
    assert store.submit_sweep(sent, drafts, NOW).created
    return [one.id for one in drafts]


def ids(records: list[TaskRecord]) -> list[str]:
    return [record.id for record in records]


class StoreSuite(DependencySuite):
    """Subclasses give a fixture `store` that is empty and closes it."""

    def test_a_submitted_task_can_be_read_with_all_that_was_said(self, store: Store) -> None:
        want = draft(name=WEIRD, priority=-7, retries=2, group="big", project="p.1")
        [record] = accept(store, want)
        assert store.get(want.id) == record
        assert (record.task.name, record.task.metadata, record.user) == (WEIRD, {"note": WEIRD}, "ada")
        assert record.task.parameters == want.spec.parameters
        kinds = {name: type(value) for name, value in store.get(want.id).task.parameters.items()}
        assert kinds == {name: type(value) for name, value in want.spec.parameters.items()}
        assert (record.ready_at, record.retries, record.task.created_at) == (NOW, 2, NOW)
        assert store.inputs(want.id) == INPUTS
        [event] = store.events(task=want.id)
        assert (event.kind, event.status, event.at, event.task) == (EventKind.SUBMITTED, Status.QUEUED, NOW, want.id)

    def test_seqs_grow_in_the_order_of_submission(self, store: Store) -> None:
        seqs = [record.seq for record in [make(store), *accept(store, draft(), draft(), draft()), make(store)]]
        assert seqs == sorted(set(seqs))

    def test_nothing_is_submitted_by_an_empty_batch(self, store: Store) -> None:
        assert store.submit([], NOW) == []
        assert store.submit([], NOW, atomic=True) == []
        assert store.events() == []

    def test_many_input_files_come_back_as_they_were(self, store: Store) -> None:
        inputs = tuple(InputFile(path=f"d{i % 7}/f {i}", sha256=f"{i:064x}", size=i) for i in range(5000))
        assert store.inputs(make(store, inputs=inputs).id) == inputs
        assert store.inputs(make(store, inputs=inputs).id) == inputs
        assert store.inputs(make(store).id) == INPUTS

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        for ask in (store.get, store.inputs, store.position, lambda task: store.apply(task, Cancel(), NOW)):
            for task in (UNKNOWN, "", "x' OR '1'='1", "\0"):
                with pytest.raises(NotFound):
                    ask(task)
        assert store.events(task=UNKNOWN) == []

    # Idempotency

    def test_the_same_request_gives_the_same_task(self, store: Store) -> None:
        first = make(store, key="k")
        after = store.apply(first.id, Cancel(), later(1))
        [again] = store.submit([draft(key="k")], later(2))
        assert (again.record, again.created, again.error) == (after, False, None)
        assert len(store.events()) == 2

    def test_another_request_with_the_same_key_is_a_conflict(self, store: Store) -> None:
        first = make(store, key="k")
        [again] = store.submit([draft(key="k", digest="d2")], NOW)
        assert isinstance(again.error, Conflict)
        assert first.id in again.error.reason
        assert again.record is None
        assert ids(store.list(TaskQuery())) == [first.id]

    def test_keys_belong_to_their_user(self, store: Store) -> None:
        assert make(store, key="k").id != make(store, key="k", user="bob", digest="d2").id

    def test_tasks_without_a_key_are_never_the_same(self, store: Store) -> None:
        assert make(store).id != make(store).id

    def test_a_key_counts_within_one_batch_too(self, store: Store) -> None:
        first, same, other, third = store.submit(
            [draft(key="k"), draft(key="k"), draft(key="k", digest="d2"), draft()], NOW
        )
        assert first.created
        assert third.created
        assert (same.record, same.created) == (first.record, False)
        assert isinstance(other.error, Conflict)
        assert len(store.list(TaskQuery())) == 2

    def test_a_draft_sent_again_gives_the_same_task_and_another_one_does_not_take_its_id(self, store: Store) -> None:
        sent = draft()
        [record] = accept(store, sent)
        [again] = store.submit([sent], NOW)
        assert (again.record, again.created) == (record, False)
        for thief in (sent._replace(digest="d2"), sent._replace(user="bob"), sent._replace(key="k")):
            [answer] = store.submit([thief], NOW)
            assert isinstance(answer.error, Conflict)
        assert store.get(sent.id) == record

    def test_an_atomic_batch_goes_in_whole(self, store: Store) -> None:
        answers = store.submit([draft(key="a"), draft(key="b"), draft()], NOW, atomic=True)
        assert [answer.created for answer in answers] == [True] * 3
        assert len(store.queue(NOW, 10)) == 3

    def test_an_atomic_batch_with_a_conflict_leaves_nothing(self, store: Store) -> None:
        known = make(store, key="known")
        before = store.events()
        batch = [draft(key="new"), draft(key="known"), draft(key="known", digest="d2"), draft(), draft(key="new")]
        answers = store.submit(batch, NOW, atomic=True)
        assert [answer.created for answer in answers] == [False] * 5
        assert [answer.error is None for answer in answers] == [False, True, False, False, False]
        assert answers[1].record == known
        assert ids(store.list(TaskQuery())) == [known.id]
        assert store.events() == before
        [record] = accept(store, draft(key="new", digest="d3"))
        assert record.seq == known.seq + 1

    def test_a_batch_that_cannot_be_stored_leaves_nothing(self, store: Store) -> None:
        with pytest.raises(InvalidInput):
            store.submit([draft(key="a"), draft(version=None)], NOW)
        assert store.list(TaskQuery()) == []
        assert store.events() == []
        make(store, key="a")

    # Lists and the queue

    def test_tasks_are_listed_newest_first_page_by_page(self, store: Store) -> None:
        made = [make(store).id for _ in range(7)]
        found, before = list[str](), None
        while page := store.list(TaskQuery(limit=3, before=before)):
            assert len(page) <= 3
            found += ids(page)
            before = page[-1].seq
        assert found == made[::-1]
        assert store.list(TaskQuery(limit=0)) == []
        assert store.list(TaskQuery(limit=-1)) == []
        assert len(store.list(TaskQuery(before=10**30, limit=10**30))) == 7

    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("simulator", {"simulator": "other"}),
            ("project", {"project": "other"}),
            ("group", {"group": "other"}),
            ("name", {"name": "other"}),
            ("user", {"user": "other"}),
        ],
    )
    def test_a_list_has_only_what_was_asked_for(self, store: Store, field: str, fields: dict[str, Any]) -> None:
        make(store)
        want = make(store, **fields)
        make(store, name="Other", project="another")
        assert ids(store.list(TaskQuery(**{field: "other"}))) == [want.id]
        assert store.list(TaskQuery(**{field: "o' OR '1'='1"})) == []
        both = {field: "other"} | {"status": Status.QUEUED}
        assert ids(store.list(TaskQuery(**both))) == [want.id]
        assert store.list(TaskQuery(**(both | {"status": Status.FAILED}))) == []

    def test_the_queue_is_ordered_by_priority_and_then_by_age(self, store: Store) -> None:
        a, b, c, d = (make(store, priority=p).id for p in (0, 5, 0, -5))
        assert ids(store.queue(NOW, 10)) == [b, a, c, d]
        assert ids(store.queue(NOW, 2)) == [b, a]
        assert store.queue(NOW, 0) == []
        assert store.queue(NOW, -1) == []
        assert [store.position(task) for task in (b, a, c, d)] == [0, 1, 2, 3]
        store.apply(a, dispatch(), NOW)
        store.apply(c, Cancel(), NOW)
        assert ids(store.queue(NOW, 10)) == [b, d]
        assert [store.position(task) for task in (b, a, c, d)] == [0, None, None, 1]

    def test_a_task_that_backs_off_is_queued_again_when_its_time_has_come(self, store: Store) -> None:
        task = make(store, retries=1, priority=9).id
        other = make(store).id
        assert store.next_ready(NOW) is None
        store.apply(task, dispatch(), NOW)
        ready_at = store.apply(task, End(1, failed()), NOW).ready_at
        assert ready_at > NOW
        assert ids(store.queue(NOW, 10)) == [other]
        assert store.next_ready(NOW) == ready_at
        assert ids(store.queue(ready_at - timedelta(microseconds=1), 10)) == [other]
        assert ids(store.queue(ready_at, 10)) == [task, other]
        assert store.next_ready(ready_at) is None

    def test_tasks_that_have_waited_too_long_are_found_the_longest_overdue_first(self, store: Store) -> None:
        a, b, c = (make(store, limits=Limits(queue=seconds)).id for seconds in (30, 10, 10))
        make(store)
        assert store.overdue(later(9.999999), 10) == []
        assert ids(store.overdue(later(10), 10)) == [b, c]
        assert ids(store.overdue(later(30), 10)) == [b, c, a]
        assert ids(store.overdue(later(30), 2)) == [b, c]
        assert store.overdue(later(30), 0) == []
        assert store.overdue(later(30), -1) == []
        store.apply(b, dispatch(), later(20))
        assert store.apply(c, Expire(), later(30)).status is Status.TIMED_OUT
        assert ids(store.overdue(later(10**6), 10)) == [a]
        # One that comes back has its whole time again.
        store.apply(b, Lost(1, reason(ReasonCode.MACHINE_LOST)), later(100))
        assert ids(store.overdue(later(109), 10)) == [a]
        assert ids(store.overdue(later(110), 10)) == [a, b]

    def test_a_held_task_is_in_no_queue_until_it_is_released(self, store: Store) -> None:
        task = make(store, limits=Limits(queue=10)).id
        other = make(store).id
        held = store.apply(task, Hold(), later(1))
        assert (held.task.held, held.status, held.task.reason and held.task.reason.code) == (
            True,
            Status.QUEUED,
            ReasonCode.HELD,
        )
        assert store.apply(task, Hold(), later(2)) == held
        assert ids(store.queue(later(2), 10)) == [other]
        assert (store.position(task), store.position(other)) == (None, 0)
        assert store.overdue(later(10**6), 10) == []
        with pytest.raises(Refused, match="held"):
            store.apply(task, dispatch(), later(3))
        free = store.apply(task, Release(), later(100))
        assert (free.task.held, free.task.reason, free.ready_at) == (False, None, later(100))
        assert ids(store.queue(later(100), 10)) == [task, other]
        assert ids(store.overdue(later(110), 10)) == [task]
        told = [event.message for event in store.events(task=task) if event.kind is EventKind.NOTE]
        assert told == ["It is held.", "It was released."]

    def test_what_runs_goes_on_when_it_is_held_and_does_not_start_again(self, store: Store) -> None:
        task = make(store).id
        store.apply(task, dispatch(), NOW)
        assert store.apply(task, Hold(), NOW).status is Status.PREPARING
        store.apply(task, Lost(1, reason(ReasonCode.MACHINE_LOST)), NOW)
        assert store.queue(later(10**6), 10) == []
        store.apply(task, Release(), later(1))
        assert ids(store.queue(later(10**6), 10)) == [task]

    def test_a_long_lane_hides_no_other_one(self, store: Store) -> None:
        first = accept(store, *(draft() for _ in range(20)))
        last = [
            make(store, user="bob").id,
            make(store, project="p").id,
            make(store, group="cloud").id,
            make(store, user="bob", priority=1).id,
        ]
        look = store.queue(NOW, 8)
        assert ids(look) == [last[3], first[0].id, first[1].id, *last[:3]]
        assert len(store.queue(NOW, 1)) == 4
        store.apply(last[0], Hold(), NOW)
        store.apply(last[3], Hold(), NOW)
        assert {record.user for record in store.queue(NOW, 8)} == {"ada"}

    def test_a_position_counts_the_turns_of_others(self, store: Store) -> None:
        old = [make(store, user="bob").id for _ in range(9)]
        mine = [make(store).id for _ in range(3)]
        make(store, group="cloud", priority=9)
        assert [store.position(task) for task in mine] == [1, 3, 5]
        make(store, priority=1, user="eve")
        assert [store.position(task) for task in mine] == [2, 4, 6]
        make(store, project="p")
        assert [store.position(task) for task in mine] == [4, 6, 8]
        assert store.position(old[-1]) == 1 + 8 + 4

    def test_pauses_are_kept_until_they_are_undone(self, store: Store) -> None:
        mine, theirs = Pause(user="ada", project="p"), Pause(group=WEIRD)
        assert store.rules(NOW) == Rules()
        for pause in (mine, mine, theirs):
            store.pause(pause)
        assert store.rules(NOW).pauses == {mine, theirs}
        store.resume(Pause(user="ada"))
        store.resume(theirs)
        store.resume(theirs)
        assert store.rules(NOW).pauses == {mine}

    def test_a_quota_takes_the_place_of_the_one_before(self, store: Store) -> None:
        whole, part = Quota(user="ada", running=3), Quota(user="ada", project="p", cpus=2.5)
        for quota in (Quota(user="ada", cpus=1), part, whole, Quota(user=WEIRD, running=0)):
            store.set_quota(quota)
        assert store.rules(NOW).quotas[1:] == (whole, part)
        store.set_quota(Quota(user=WEIRD))
        assert store.rules(NOW).quotas == (whole, part)

    def test_what_outputs_take_is_added_up_until_they_are_removed(self, store: Store) -> None:
        storage = Quota(user="ada", project="p", storage=10)
        store.set_quota(storage)
        assert (store.rules(NOW).quotas, store.rules(NOW).stored, store.stored()) == ((storage,), {}, {})
        first, second, theirs = (
            succeed(store, project="p", size=5),
            succeed(store, size=7),
            succeed(store, user="bob"),
        )
        assert store.get(first).task.attempts[0].output_bytes == 5
        assert store.stored("ada") == {Account("ada"): 12, Account("ada", "p"): 5, Account("ada", "default"): 7}
        assert store.rules(NOW).stored == store.stored()
        assert store.stored("eve") == {}
        removed = store.apply(first, OutputsRemoved(), later(9))
        assert (removed.task.outputs_removed_at, removed.output_bytes) == (later(9), 0)
        assert store.apply(first, OutputsRemoved(), later(10)) == removed
        assert store.events(task=first)[-1].message == "Its outputs were removed."
        assert store.stored() == {Account("ada"): 7, Account("ada", "default"): 7}
        assert ids(store.ended(later(60), 10)) == [first, second, theirs]
        # Of the third nobody knows how much it stored.
        assert store.get(theirs).output_bytes is None
        assert ids(store.ended(later(60), 10, with_outputs=True)) == [second, theirs]
        assert ids(store.ended(later(60), 10, store.get(second), with_outputs=True)) == [theirs]
        store.forget(second)
        assert store.stored() == {}

    def test_what_tasks_cost_is_added_up_by_the_month_of_each_attempts_end(self, store: Store) -> None:
        store.set_quota(monthly := Quota(user="ada", usd_per_hour=0.5, usd_per_month=100.0))
        assert (store.rules(NOW).quotas, store.rules(NOW).spent, store.spent(NOW)) == ((monthly,), {}, {})
        first = make(store, project="p", retries=1, retry=Retry(on=("exit-code",))).id
        store.apply(first, priced := replace(dispatch(), usd_per_hour=0.36), NOW)
        running = store.get(first)
        assert (running.task.attempts[0].usd_per_hour, running.task.cost_usd, running.cost) == (0.36, None, None)
        assert store.spent(NOW) == {}, "what runs counts when it ends"
        store.apply(first, End(1, failed()), later(100))
        assert store.get(first).task.cost_usd == pytest.approx(0.01)
        assert store.spent(NOW) == {Account("ada"): 0.01, Account("ada", "p"): 0.01}
        # The next attempt ends in the next month, and counts there with all that it cost.
        month = later(40 * 86400)
        store.apply(first, priced, later(200))
        store.apply(first, End(2, succeeded()), month)
        assert store.get(first).task.cost_usd == pytest.approx(0.01 + (40 * 86400 - 200) * 0.0001)
        assert store.spent(NOW)[Account("ada")] == 0.01
        assert store.spent(month, "ada")[Account("ada", "p")] == pytest.approx(345.58)
        theirs = make(store, user="bob").id
        store.apply(theirs, replace(dispatch(), usd_per_hour=3600.0), month)
        store.apply(theirs, End(1, failed()), month + timedelta(seconds=2))
        assert store.spent(month)[Account("bob")] == 2.0
        assert set(store.spent(month, "bob")) == {Account("bob"), Account("bob", "default")}
        assert store.rules(month).spent == store.spent(month)
        assert store.rules(NOW).spent == store.spent(NOW)
        # What was forgotten was spent all the same.
        before = store.spent(month)
        store.forget(theirs)
        assert store.spent(month) == before
        store.set_quota(Quota(user="ada", usd_per_hour=0.5))
        assert store.rules(month).spent == {}, "nobody looks where no quota limits it"

    def test_a_task_without_a_price_costs_nobody_knows_what(self, store: Store) -> None:
        task = succeed(store)
        assert (store.get(task).task.cost_usd, store.spent(later(5))) == (None, {})

    def test_only_what_has_ended_loses_its_outputs(self, store: Store) -> None:
        task = make(store).id
        with pytest.raises(Refused):
            store.apply(task, OutputsRemoved(), NOW)

    def test_a_rule_of_retention_takes_the_place_of_the_one_before(self, store: Store) -> None:
        day = timedelta(days=1)
        general, own = Retention(tasks=90 * day), Retention(project=WEIRD, outputs=day, tasks=2 * day)
        for rule in (own, Retention(outputs=day), general):
            store.set_retention(rule)
        assert store.retention() == [general, own]
        store.set_retention(Retention(project=WEIRD))
        assert store.retention() == [general]

    def test_the_ledger_has_each_machine_once_and_those_launched_last_first(self, store: Store) -> None:
        first, second = rental("i-1"), rental("i-2", group=WEIRD, launched_at=later(60), price_per_hour=None)
        store.keep_rentals([])
        store.keep_rentals([first, second])
        assert store.rentals(RentalQuery()) == [second, first]
        over = replace(first, ended_at=later(90), last_seen_at=later(90), why_ended=WEIRD, price_per_hour=0.25)
        store.keep_rentals([over])
        assert store.rentals(RentalQuery()) == [second, over]
        assert store.rentals(RentalQuery(limit=1)) == [second]
        assert store.rentals(RentalQuery(limit=-1)) == []
        assert store.rentals(RentalQuery(ended=False)) == [second]
        assert store.rentals(RentalQuery(ended=True)) == [over]
        assert store.rentals(RentalQuery(group=WEIRD)) == [second]
        assert store.rentals(RentalQuery(since=later(89))) == [second, over]
        assert store.rentals(RentalQuery(since=later(90))) == [second]

    def test_the_ledger_forgets_what_ended_or_was_last_seen_long_ago(self, store: Store) -> None:
        seen = rental("i-seen", last_seen_at=later(60))
        ended = rental("i-ended", ended_at=later(50), last_seen_at=later(50))
        store.keep_rentals([rental("i-lost"), ended, seen])
        store.forget_rentals(later(50))
        assert {one.id for one in store.rentals(RentalQuery())} == {"i-ended", "i-seen"}
        store.forget_rentals(later(51))
        assert store.rentals(RentalQuery()) == [seen]

    def test_lanes_are_those_in_which_something_may_start(self, store: Store) -> None:
        task = make(store, project="p").id
        make(store, user="bob", group="cloud")
        assert store.lanes() == [Lane("cloud", "bob", "default"), Lane("local", "ada", "p")]
        store.apply(task, Hold(), NOW)
        assert store.lanes() == [Lane("cloud", "bob", "default")]

    def test_the_newest_successes_of_a_simulator_are_found(self, store: Store) -> None:
        a, b, c, d = (make(store, simulator=name).id for name in ("swmm", "other", "swmm", "swmm"))
        for second, (task, outcome) in enumerate(((c, succeeded()), (b, succeeded()), (a, succeeded()), (d, failed()))):
            store.apply(task, dispatch(), later(second))
            store.apply(task, End(1, outcome), later(second))
        make(store)
        assert ids(store.runs("swmm", 10)) == [a, c]
        assert ids(store.runs("swmm", 1)) == [a]
        assert store.runs("swmm", -1) == []
        assert store.runs("none", 10) == []

    def test_active_tasks_are_those_that_hold_a_machine(self, store: Store) -> None:
        a, b, c, d = (make(store).id for _ in range(4))
        for task in (d, c, b):
            store.apply(task, dispatch(holder=f"sim-{task}"), NOW)
        store.apply(c, Progress(1, Status.RUNNING), NOW)
        store.apply(b, Progress(1, Status.FINALIZING), NOW)
        assert ids(store.active()) == [b, c, d]
        assert [record.holder for record in store.active()] == [f"sim-{task}" for task in (b, c, d)]
        store.apply(b, End(1, succeeded()), NOW)
        assert ids(store.active()) == [c, d]
        assert store.get(a).status is Status.QUEUED

    def test_active_tasks_are_told_as_they_are_now(self, store: Store) -> None:
        task = make(store).id
        store.apply(task, dispatch(until=30), NOW)
        for stimulus in (Renew(1, later(60)), Progress(1, Status.RUNNING), Renew(1, later(90)), Cancel()):
            store.active()
            store.apply(task, stimulus, NOW)
            assert store.active() == [store.get(task)]

    def test_every_status_is_counted(self, store: Store) -> None:
        assert store.counts() == dict.fromkeys(Status, 0)
        a, b, _ = (make(store).id for _ in range(3))
        store.apply(a, dispatch(), NOW)
        store.apply(b, Cancel(), NOW)
        want = {Status.PREPARING: 1, Status.CANCELLED: 1, Status.QUEUED: 1}
        assert store.counts() == dict.fromkeys(Status, 0) | want

    # Stimuli and events

    def test_a_stimulus_is_stored_with_what_happened(self, store: Store) -> None:
        task = make(store).id
        for stimulus in (dispatch(), Progress(1, Status.RUNNING), Progress(1, Status.FINALIZING), End(1, succeeded())):
            record = store.apply(task, stimulus, later(1))
            assert store.get(task) == record
        assert (record.status, record.task.result) == (Status.SUCCEEDED, 1)
        assert [e.status for e in store.events(task=task)] == [
            Status.QUEUED,
            Status.PREPARING,
            Status.RUNNING,
            Status.FINALIZING,
            Status.SUCCEEDED,
        ]

    def test_the_rule_for_retries_and_what_attempts_printed_are_kept(self, store: Store) -> None:
        retry = Retry(on=("out-of-memory", "exit-code:75"), memory=4 * GIB)
        task = make(store, retries=3, retry=retry).id
        assert store.get(task).task.retry == retry
        store.apply(task, dispatch(), NOW)
        outcome = failed(ReasonCode.OUT_OF_MEMORY).model_copy(update={"stdout_tail": WEIRD, "stderr_tail": "\ufffd"})
        record = store.apply(task, End(1, outcome), NOW)
        assert store.get(task) == record
        assert (record.task.attempts[0].stdout_tail, record.task.resources.memory) == (WEIRD, 2 * GIB)

    def test_what_failures_and_losses_have_cost_is_kept(self, store: Store) -> None:
        task = make(store, retries=3).id
        ends = [failed(), failed(ReasonCode.MACHINE_LOST), failed(), failed(ReasonCode.PREEMPTED)]
        costs = []
        for number, outcome in enumerate(ends, 1):
            store.apply(task, dispatch(holder=f"sim-{number}"), NOW)
            record = store.apply(task, End(number, outcome), later(number))
            assert store.get(task) == record
            costs.append((record.failures, record.losses, record.holder, record.lease_until))
        assert costs == [(1, 0, None, None), (1, 1, None, None), (2, 1, None, None), (2, 1, None, None)]

    def test_what_was_given_back_is_kept(self, store: Store) -> None:
        task = make(store, retries=1).id
        store.apply(task, dispatch(), NOW)
        store.apply(task, End(1, failed()), NOW)
        assert ids(store.queue(NOW, 10)) == []
        record = store.apply(task, Forgive(1), NOW)
        assert store.get(task) == record
        assert (record.failures, record.task.attempts[0].is_forgiven) == (0, True)
        assert ids(store.queue(NOW, 10)) == [task]
        assert store.apply(task, Forgive(1), NOW) == record

    def test_reasons_come_back_as_they_were(self, store: Store) -> None:
        task = make(store).id
        why = reason(ReasonCode.GROUP_FULL, WEIRD)
        store.apply(task, Wait(why), NOW)
        assert store.get(task).task.reason == why
        assert store.events(task=task)[-1].reason == why

    def test_a_stall_is_kept_and_told_once(self, store: Store) -> None:
        task = make(store, limits=Limits(stall=60)).id
        store.apply(task, dispatch(), NOW)
        record = store.apply(task, Stalled(1, 1), later(60))
        assert store.get(task) == record
        with pytest.raises(Refused) as caught:
            store.apply(task, Stalled(1, 1), later(61))
        assert caught.value.duplicate
        assert [e.message for e in store.events(task=task) if e.kind is EventKind.NOTE] == [
            "The attempt has given no output for 60 s."
        ]

    def test_what_is_told_of_snapshots_is_kept_and_told_once(self, store: Store) -> None:
        rule = Checkpoint(files=("restart/**",), every=60, resume=(Command(argv=("go", WEIRD)),))
        task = make(store, checkpoint=rule).id
        assert store.get(task).task.checkpoint == rule
        store.apply(task, dispatch(), NOW)
        snapshot = Snapshot(attempt=1, number=1, at=later(60), files=3, size=2**40)
        record = store.apply(task, Tell(1, News(message=WEIRD, made=snapshot)), later(60))
        assert store.get(task) == record
        with pytest.raises(Refused) as caught:
            store.apply(task, Tell(1, News(message=WEIRD, made=snapshot)), later(61))
        assert caught.value.duplicate
        assert [e.message for e in store.events(task=task) if e.kind is EventKind.NOTE] == [WEIRD]
        store.apply(task, End(1, failed(ReasonCode.MACHINE_LOST)), later(70))
        store.apply(task, dispatch(holder="sim-2"), later(80))
        record = store.apply(task, Tell(2, News(message="on", resumed_from=snapshot)), later(81))
        assert store.get(task) == record
        assert [(a.snapshot, a.resumed_from) for a in record.task.attempts] == [(snapshot, None), (None, snapshot)]

    def test_a_renewed_lease_is_kept_and_makes_no_event(self, store: Store) -> None:
        task = make(store).id
        store.apply(task, dispatch(), NOW)
        before = store.events()
        record = store.apply(task, Renew(1, later(99)), NOW)
        assert store.get(task) == record
        assert record.lease_until == later(99)
        assert store.apply(task, Renew(1, later(50)), NOW).lease_until == later(99)
        assert store.events() == before

    def test_a_refused_report_changes_nothing_and_is_recorded_within_bounds(self, store: Store) -> None:
        task, other = make(store).id, make(store).id
        store.apply(task, dispatch(), NOW)
        record = store.get(task)
        for attempt in (2, 10**30):
            with pytest.raises(Refused):
                store.apply(task, End(attempt, succeeded()), later(1))
        [_, _, event, _] = store.events(task=task)
        assert (event.kind, event.attempt, event.status) == (EventKind.REPORT_REFUSED, 2, Status.PREPARING)
        for _ in range(MAX_REFUSALS + 5):
            with pytest.raises(Refused):
                store.apply(task, Renew(7, later(1)), later(1))
        assert store.get(task) == record
        told = [e for e in store.events(task=task) if e.kind is EventKind.REPORT_REFUSED]
        assert len(told) == MAX_REFUSALS
        with pytest.raises(Refused):
            store.apply(other, Renew(7, later(1)), later(1))
        assert len(store.events(task=other)) == 2

    def test_what_came_one_after_the_other_goes_in_together_each_with_its_moment(self, store: Store) -> None:
        task = make(store).id
        store.apply(task, dispatch(), NOW)
        earlier = [(Progress(1, Status.RUNNING), later(1)), (Progress(1, Status.FINALIZING), later(2))]
        record = store.apply(task, End(1, succeeded()), later(3), earlier=earlier)
        assert store.get(task) == record
        assert (record.status, record.task.started_at, record.task.ended_at) == (Status.SUCCEEDED, later(1), later(3))
        assert [(event.status, event.at) for event in store.events(task=task)][2:] == [
            (Status.RUNNING, later(1)),
            (Status.FINALIZING, later(2)),
            (Status.SUCCEEDED, later(3)),
        ]
        with pytest.raises(Refused) as caught:
            store.apply(task, End(1, succeeded()), later(4), earlier=earlier)
        assert caught.value.duplicate
        assert store.get(task) == record
        assert [event.kind for event in store.events(task=task)][5:] == [EventKind.REPORT_REFUSED] * 3

    def test_one_of_several_that_does_not_fit_keeps_none_of_the_others_out(self, store: Store) -> None:
        task = make(store).id
        store.apply(task, dispatch(), NOW)
        store.apply(task, Progress(1, Status.RUNNING), later(1))
        moves = [(Progress(1, Status.RUNNING), later(1)), (Progress(1, Status.FINALIZING), later(2))]
        assert store.apply(task, Renew(1, later(99)), later(3), earlier=moves).status is Status.FINALIZING
        with pytest.raises(Refused) as caught:
            store.apply(task, Progress(2, Status.RUNNING), later(5), earlier=[(Stalled(1, 1), later(4))])
        assert not caught.value.duplicate
        assert (store.get(task).lease_until, store.get(task).task.attempts[-1].stalls) == (later(99), 1)
        told = [(event.kind, event.at) for event in store.events(task=task)]
        assert told[3:] == [
            (EventKind.REPORT_REFUSED, later(1)),
            (EventKind.STATUS, later(2)),
            (EventKind.NOTE, later(4)),
            (EventKind.REPORT_REFUSED, later(5)),
        ]

    def test_a_doubled_end_is_told_apart(self, store: Store) -> None:
        task = make(store).id
        store.apply(task, dispatch(), NOW)
        store.apply(task, End(1, succeeded()), NOW)
        with pytest.raises(Refused) as caught:
            store.apply(task, End(1, succeeded()), NOW)
        assert caught.value.duplicate

    def test_the_latest_event_is_the_last_one_of_all(self, store: Store) -> None:
        assert store.latest() == 0
        make(store)
        make(store)
        assert store.latest() == store.events()[-1].seq

    def test_who_waits_for_news_gets_them_when_they_come(self, store: Store) -> None:
        assert store.wait(0, 0) == 0
        make(store)
        seen = store.latest()
        assert store.wait(seen - 1, ENDLESS) == seen
        assert store.wait(seen, 0.05) == seen
        with ThreadPoolExecutor(1) as thread:
            for _ in range(3):
                waiting = thread.submit(store.wait, seen, ENDLESS)
                make(store)
                assert waiting.result(60) > seen
                seen = store.latest()

    def test_events_are_read_on_from_where_one_stood(self, store: Store) -> None:
        a, b = make(store).id, make(store).id
        for task in (a, b, a):
            store.apply(task, dispatch() if store.get(task).status is Status.QUEUED else Cancel(), NOW)
        every = store.events()
        assert [e.seq for e in every] == sorted({e.seq for e in every})
        assert [e.task for e in every] == [a, b, a, b, a]
        found, after = list[int](), 0
        while page := store.events(after=after, limit=2):
            found += [e.seq for e in page]
            after = page[-1].seq
        assert found == [e.seq for e in every]
        assert store.events(task=b, after=every[1].seq) == [every[3]]
        assert store.events(after=10**30) == []
        assert store.events(limit=0) == []

    def test_the_newest_events_of_a_task_are_kept(self, store: Store) -> None:
        task, other = make(store).id, make(store).id
        reasons = [reason(ReasonCode.GROUP_FULL), reason(ReasonCode.QUOTA)]
        for i in range(MAX_EVENTS + 3):
            store.apply(task, Wait(reasons[i % 2]), later(i))
        events = store.events(task=task, limit=ENDLESS)
        assert len(events) == MAX_EVENTS
        assert events[-1].at == later(MAX_EVENTS + 2)
        assert events[0].kind is not EventKind.SUBMITTED
        assert len(store.events(task=other)) == 1
        assert len(store.events(limit=ENDLESS)) == MAX_EVENTS + 1

    # Forgetting

    def test_ended_tasks_are_found_by_their_end_oldest_first(self, store: Store) -> None:
        first, second, third = make(store).id, make(store).id, make(store).id
        make(store)
        for task, at in ((second, 1.0), (first, 2.0), (third, 3.0)):
            store.apply(task, Cancel(), later(at))
        assert ids(store.ended(later(3), 10)) == [second, first]
        assert ids(store.ended(later(60), 2)) == [second, first]
        assert ids(store.ended(later(60), 10)) == [second, first, third]
        assert ids(store.ended(later(60), 1, store.get(second))) == [first]
        assert ids(store.ended(later(3), 10, store.get(first))) == []
        assert store.ended(NOW, 10) == []

    def test_a_task_is_forgotten_with_its_events_and_its_key(self, store: Store) -> None:
        other, gone = make(store).id, make(store, key="k").id
        store.apply(gone, Cancel(), later(1))
        latest = store.latest()
        store.forget(gone)
        with pytest.raises(NotFound):
            store.get(gone)
        with pytest.raises(NotFound):
            store.inputs(gone)
        assert ids(store.list(TaskQuery())) == [other]
        assert {event.task for event in store.events()} == {other}
        assert store.ended(later(60), 10) == []
        again = make(store, key="k", digest="d2")
        assert again.id != gone
        assert store.events(task=again.id)[0].seq > latest
        with pytest.raises(NotFound):
            store.forget(gone)

    # Results that later tasks take

    def test_the_newest_result_of_the_same_user_with_the_same_fingerprint_is_found(self, store: Store) -> None:
        older, newer = (succeed(store, fingerprint="f") for _ in range(2))
        asking = make(store, fingerprint="f", reuse=True)
        for stranger in (make(store, fingerprint="g"), make(store), make(store, fingerprint="f", user="bob")):
            assert store.earlier_results([stranger.id]) == {}
        assert store.earlier_results([asking.id, UNKNOWN]) == {asking.id: store.get(newer)}
        assert store.earlier_results([]) == {}
        store.withdraw(newer)
        assert ids(list(store.earlier_results([asking.id]).values())) == [older]
        store.forget(older)
        assert store.earlier_results([asking.id]) == {}

    def test_only_a_result_is_found(self, store: Store) -> None:
        asking = make(store, fingerprint="f", reuse=True)
        for outcome in (failed(), failed(stored=False)):
            other = make(store, fingerprint="f").id
            store.apply(other, dispatch(), NOW)
            store.apply(other, End(1, outcome), NOW)
        assert store.earlier_results([asking.id]) == {}

    def test_a_task_that_took_a_result_lends_none_and_keeps_the_source(self, store: Store) -> None:
        source = succeed(store, fingerprint="f")
        taker = make(store, fingerprint="f", reuse=True).id
        record = store.apply(taker, Reused(source=source, result=1), later(9))
        assert store.get(taker) == record
        assert (record.status, record.task.result, record.task.reused_from) == (Status.SUCCEEDED, 1, source)
        assert record.outputs_of == source
        assert ids(store.list(TaskQuery(reused_from=source))) == [taker]
        assert store.list(TaskQuery(reused_from=taker)) == []
        asking = make(store, fingerprint="f", reuse=True).id
        assert ids(list(store.earlier_results([asking]).values())) == [source]
        for remove in (store.withdraw, store.forget):
            with pytest.raises(Conflict, match="later task"):
                remove(source)
        assert ids(list(store.earlier_results([asking]).values())) == [source]
        store.forget(taker)
        store.withdraw(source)
        store.withdraw(source)
        store.forget(source)
        assert store.events(task=source) == []

    def test_a_withdrawn_result_is_not_taken(self, store: Store) -> None:
        source = succeed(store, fingerprint="f")
        taker = make(store, fingerprint="f", reuse=True).id
        store.withdraw(source)
        for gone in (source, UNKNOWN):
            with pytest.raises(Refused, match="withdrawn"):
                store.apply(taker, Reused(source=gone, result=1), NOW)
        assert store.get(taker).status is Status.QUEUED
        assert store.events(task=taker)[-1].kind is EventKind.REPORT_REFUSED

    def test_what_is_not_there_or_goes_on_is_not_withdrawn(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.withdraw(UNKNOWN)
        with pytest.raises(Conflict, match="not ended"):
            store.withdraw(make(store, fingerprint="f").id)

    def test_a_task_that_goes_on_is_not_forgotten(self, store: Store) -> None:
        task = make(store).id
        for _ in range(2):
            with pytest.raises(Conflict):
                store.forget(task)
            if store.get(task).status is Status.QUEUED:
                store.apply(task, dispatch(), NOW)
        assert store.get(task).attempt == 1

    # Keys

    def test_a_key_is_found_by_its_hash_until_it_is_revoked(self, store: Store) -> None:
        _, key = new_key("ada", NOW, later(60))
        _, other = new_key(WEIRD, later(1))
        store.add_key(other)
        store.add_key(key)
        assert store.find_key(key.hash) == key
        assert store.find_key("0" * 64) is None
        assert store.list_keys() == [key, other]
        store.revoke_key(key.id)
        assert store.find_key(key.hash) is None
        assert store.list_keys() == [other]
        with pytest.raises(NotFound):
            store.revoke_key(key.id)

    def test_a_key_is_there_once(self, store: Store) -> None:
        _, key = new_key("ada", NOW)
        _, other = new_key("bob", NOW)
        store.add_key(key)
        for double in (key, replace(other, hash=key.hash), replace(other, id=key.id)):
            with pytest.raises(Conflict):
                store.add_key(double)
        assert store.list_keys() == [key]

    # Several at once

    def test_threads_that_submit_the_same_key_make_one_task(self, store: Store) -> None:
        start = threading.Barrier(8)

        def submit(_: int) -> tuple[str, bool]:
            start.wait(30)
            [answer] = store.submit([draft(key="k")], NOW)
            assert answer.record is not None
            return answer.record.id, answer.created

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(submit, range(8)))
        assert len({task for task, _ in answers}) == 1
        assert sum(created for _, created in answers) == 1

    def test_threads_that_dispatch_the_same_task_make_one_attempt(self, store: Store) -> None:
        task = make(store).id
        start = threading.Barrier(8)

        def send(i: int) -> bool:
            start.wait(30)
            try:
                store.apply(task, dispatch(holder=f"sim-{i}"), NOW)
            except Refused:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(send, range(8))) == 1
        assert store.get(task).attempt == 1

    def test_readers_and_writers_do_not_disturb_each_other(self, store: Store) -> None:
        def write(i: int) -> int:
            made = [make(store, name=f"w{i}") for _ in range(20)]
            for record in made:
                store.apply(record.id, dispatch(), NOW)
                store.apply(record.id, Lost(1, reason(ReasonCode.MACHINE_LOST)), NOW)
            return len(made)

        def read(_: int) -> int:
            for _ in range(20):
                for record in store.list(TaskQuery(limit=5)):
                    assert store.events(task=record.id)
                assert sum(store.counts().values()) <= 80
            return 0

        with ThreadPoolExecutor(8) as threads:
            done = [threads.submit(write, i) for i in range(4)] + [threads.submit(read, i) for i in range(4)]
            assert sum(future.result(60) for future in done) == 80
        assert store.counts()[Status.QUEUED] == 80
        assert len(store.events(limit=ENDLESS)) == 80 * 4

    # The end

    def test_a_closed_store_says_so(self, store: Store) -> None:
        task = make(store).id
        store.close()
        store.close()
        for ask in (
            lambda: store.get(task),
            lambda: store.submit([draft()], NOW),
            lambda: store.apply(task, Cancel(), NOW),
            lambda: store.list(TaskQuery()),
            lambda: store.queue(NOW, 1),
            lambda: store.events(),
            lambda: store.wait(0, ENDLESS),
        ):
            with pytest.raises(StoreUnavailable):
                ask()

    # Sweeps

    def test_a_sweep_is_stored_with_all_its_tasks(self, store: Store) -> None:
        other = make(store)
        sent = sweep(name=WEIRD, columns=("velocity", "angle"))
        cases = [draft(case=case(sent, n)) for n in (1, 2, 3)]
        answer = store.submit_sweep(sent, cases, NOW)
        assert (answer.created, answer.record.draft, answer.record.cases) == (True, sent, 3)
        assert answer.record.created_at == NOW
        assert store.get_sweep(sent.id) == answer.record
        found = store.list(TaskQuery(sweep=sent.id))
        assert ids(found) == [one.id for one in reversed(cases)]
        assert [record.task.case for record in found] == [one.case for one in reversed(cases)]
        assert store.get(other.id).task.case is None
        assert ids(store.list(TaskQuery(sweep=sent.id, status=Status.RUNNING))) == []
        assert store.list(TaskQuery(sweep="s' OR '1'='1")) == []

    def test_what_a_sweep_costs_is_added_up(self, store: Store) -> None:
        sent = sweep(key="k")
        store.submit_sweep(sent, [draft(case=case(sent, n), retries=1) for n in (1, 2, 3)], NOW)
        third, second, first = ids(store.list(TaskQuery(sweep=sent.id)))
        alone, priced = make(store).id, replace(dispatch(), usd_per_hour=36.0)
        store.apply(third, dispatch(), NOW)
        store.apply(third, End(1, succeeded()), later(100))
        assert store.get_sweep(sent.id).cost is None, "no price is known"
        for task in (first, second, alone):
            store.apply(task, priced, NOW)
        assert store.get_sweep(sent.id).cost is None, "what runs counts when it ends"
        for task in (first, second, alone):
            store.apply(task, End(1, failed()), later(100))
        assert store.get_sweep(sent.id).cost == 2_000_000
        # A second attempt counts beside the first one.
        store.apply(first, priced, later(200))
        store.apply(first, End(2, succeeded()), later(250))
        store.forget(first)
        assert store.get_sweep(sent.id).cost == 2_500_000, "what was forgotten was spent all the same"
        assert [one.cost for one in store.list_sweeps(SweepQuery())] == [2_500_000]
        assert store.submit_sweep(sent, [], NOW).record.cost == 2_500_000

    def test_a_sweep_counts_its_own_tasks(self, store: Store) -> None:
        make(store)
        [first, *_] = tasks = submit_sweep(store, 3)
        store.apply(first, Cancel(), NOW)
        record = store.get(first)
        assert record.task.case is not None
        counts = store.counts(sweep=record.task.case.sweep)
        assert set(counts) == set(Status)
        assert (counts[Status.QUEUED], counts[Status.CANCELLED]) == (2, 1)
        assert sum(counts.values()) == len(tasks)
        assert sum(store.counts(sweep="s000000000000").values()) == 0

    def test_events_name_the_sweep_and_are_read_by_it(self, store: Store) -> None:
        make(store)
        [first, second] = submit_sweep(store, 2)
        submit_sweep(store, 1)
        store.apply(second, dispatch(), NOW)
        with pytest.raises(Refused):
            store.apply(second, Progress(7, Status.RUNNING), NOW)
        case = store.get(first).task.case
        assert case is not None
        events = store.events(sweep=case.sweep)
        assert [event.task for event in events] == [first, second, second, second]
        assert {event.sweep for event in events} == {case.sweep}
        assert store.events(sweep=case.sweep, after=events[1].seq, limit=1) == [events[2]]
        assert store.events(task=second) == events[1:]
        assert [event.sweep for event in store.events()].count(None) == 1
        assert store.events(sweep="s000000000000") == []

    def test_the_same_sweep_again_is_the_same_sweep(self, store: Store) -> None:
        sent = sweep(key="k")
        first = store.submit_sweep(sent, [draft(case=case(sent, 1))], NOW)
        again = replace(sent, id=new_sweep_id())
        answer = store.submit_sweep(again, [draft(case=case(again, 1)), draft(case=case(again, 2))], later(1))
        assert (answer.record, answer.created) == (first.record, False)
        unkeyed = sweep()
        made = store.submit_sweep(unkeyed, [draft(case=case(unkeyed, 1))], NOW)
        assert store.submit_sweep(unkeyed, [], later(1)).record == made.record
        assert len(store.list(TaskQuery())) == 2
        assert len(store.list_sweeps(SweepQuery())) == 2

    def test_a_sweep_in_conflict_leaves_nothing(self, store: Store) -> None:
        known = sweep(key="k")
        store.submit_sweep(known, [draft(case=case(known, 1))], NOW)
        used = make(store, key="used")
        before = (store.events(), store.list(TaskQuery()), store.list_sweeps(SweepQuery()))
        other = sweep(key="other")
        for sent, drafts in (
            (sweep(key="k", digest="d2"), [draft()]),
            (replace(known, key=None, digest="d2"), [draft()]),
            (other, [draft(case=case(other, 1)), draft(key="used", digest="d2")]),
            (other, [draft(case=case(other, 1)), draft(key="used")]),
        ):
            with pytest.raises(Conflict):
                store.submit_sweep(sent, drafts, NOW)
        with pytest.raises(InvalidInput):
            store.submit_sweep(other, [draft(case=case(other, 1)), draft(version=None)], NOW)
        assert (store.events(), store.list(TaskQuery()), store.list_sweeps(SweepQuery())) == before
        assert store.submit_sweep(other, [draft(case=case(other, 1))], NOW).created
        assert store.get(used.id) == used

    def test_keys_of_sweeps_belong_to_their_user(self, store: Store) -> None:
        for user in ("ada", "bob"):
            sent = sweep(key="k", user=user)
            assert store.submit_sweep(sent, [draft(case=case(sent, 1), user=user)], NOW).created
        [found] = store.list_sweeps(SweepQuery(user="bob", key="k"))
        assert found.draft.user == "bob"

    def test_sweeps_are_listed_newest_first_page_by_page(self, store: Store) -> None:
        made = []
        for _ in range(5):
            sent = sweep()
            made.append(store.submit_sweep(sent, [draft(case=case(sent, 1))], NOW).record)
        found, before = [], None
        while page := store.list_sweeps(SweepQuery(limit=2, before=before, user="ada")):
            found += page
            before = page[-1].seq
        assert found == made[::-1]
        assert store.list_sweeps(SweepQuery(user="bob")) == []
        assert store.list_sweeps(SweepQuery(limit=-1)) == []
        assert len(store.list_sweeps(SweepQuery(before=10**30, limit=10**30))) == 5

    def test_an_unknown_sweep_is_not_found(self, store: Store) -> None:
        for unknown in ("s000000000000", "", "x' OR '1'='1", "\0"):
            with pytest.raises(NotFound):
                store.get_sweep(unknown)

    # Machine groups

    def test_a_machine_group_is_kept_and_changed_only_from_what_it_was(self, store: Store) -> None:
        spec = GroupSpec(name="crash", machine_types=("c7i.large",), max=3, idle=600.5, ends_at=NOW)
        first = new_record(spec, "ada", NOW)
        store.put_group(first)
        store.put_group(first)  # as one does whose answer was lost
        assert store.group_records() == [first]
        second = first.model_copy(update={"ending_since": NOW})
        third = second.model_copy(update={"ended_at": NOW + timedelta(seconds=1)})
        store.put_group(second, first)
        with pytest.raises(Conflict):
            store.put_group(third, first)
        assert store.group_records() == [second]
        store.put_group(third, second)
        assert store.group_records() == [third]
        store.forget_group(first.id)
        store.forget_group(first.id)
        assert store.group_records() == []

    def test_a_groups_name_is_there_once_among_those_that_have_not_ended(self, store: Store) -> None:
        spec = GroupSpec(name="crash", machine_types=("c7i.large",), count=1)
        first, second = new_record(spec, "ada", NOW), new_record(spec, "bob", NOW + timedelta(seconds=1))
        store.put_group(first)
        with pytest.raises(Conflict):
            store.put_group(second)
        store.put_group(first.model_copy(update={"ended_at": NOW}), first)
        store.put_group(second)
        assert [one.id for one in store.group_records()] == [first.id, second.id]
