"""What every store of tasks must do with tasks that wait for others, whatever it is made of."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simyard.dependency import Dependency, DependencyEnd, IfDependencyFails, InputFrom
from simyard.errors import Conflict, InvalidInput, SimyardError
from simyard.event import EventKind
from simyard.reason import ReasonCode
from simyard.status import Status
from tasks.lifecycle import Cancel, End, Release
from tasks.record import Draft, TaskRecord
from tasks.store import Store
from tests.unit.tasks.samples import INPUTS, NOW, case, dispatch, draft, failed, later, succeeded, sweep

HOLD = IfDependencyFails.HOLD


def on(*tasks: str | None, end: DependencyEnd = DependencyEnd.SUCCESS) -> tuple[Dependency, ...]:
    return tuple(Dependency(task=task, end=end) for task in tasks)


def keyed(*keys: str) -> tuple[Dependency, ...]:
    return tuple(Dependency(key=key) for key in keys)


def put(store: Store, *drafts: Draft) -> list[TaskRecord]:
    records = []
    for answer in store.submit(drafts, NOW):
        assert answer.record is not None, answer.error
        records.append(answer.record)
    return records


def new(store: Store, **fields: Any) -> str:
    [record] = put(store, draft(**fields))
    return record.id


def finish(store: Store, task: str, *, well: bool = True) -> None:
    store.apply(task, dispatch(holder=f"sim-{task}"), NOW)
    store.apply(task, End(1, succeeded() if well else failed()), later(5))


def settle(store: Store) -> int:
    told = 0
    while count := store.settle(later(6), 1000):
        told += count
    return told


def refusal(store: Store, *drafts: Draft, place: int = 0) -> SimyardError:
    error = store.submit(drafts, NOW)[place].error
    assert error is not None
    return error


class DependencySuite:
    """Subclasses give a fixture `store` that is empty and closes it."""

    def test_a_task_waits_until_the_one_before_it_has_succeeded(self, store: Store) -> None:
        first = new(store)
        second = new(store, after=on(first), priority=9)
        assert store.get(second).status is Status.WAITING
        assert [record.id for record in store.queue(NOW, 10)] == [first]
        assert store.position(second) is None
        assert settle(store) == 0
        finish(store, first)
        assert store.get(second).status is Status.WAITING
        assert store.settle(later(6), 1000) == 1
        assert store.settle(later(7), 1000) == 0
        assert [record.id for record in store.queue(later(6), 10)] == [second]
        assert store.get(second).ready_at == later(6)
        assert [e.status for e in store.events(task=second)] == [Status.WAITING, Status.QUEUED]
        assert store.get(second).task.after == on(first)

    def test_what_takes_outputs_waits_for_them(self, store: Store) -> None:
        first = new(store)
        taken = InputFrom(task=first, path="mesh/**", into="in")
        second = new(store, inputs=(*INPUTS, taken))
        record = store.get(second)
        assert (record.status, record.task.after, record.task.inputs_from) == (Status.WAITING, on(first), (taken,))
        assert store.inputs(second) == INPUTS

    def test_a_failure_ends_those_that_wait_for_it_one_after_the_other(self, store: Store) -> None:
        first = new(store)
        second = new(store, after=on(first))
        third = new(store, after=on(second))
        whatever = new(store, after=on(second, end=DependencyEnd.ANY))
        finish(store, first, well=False)
        assert settle(store) == 3
        for task, parent in ((second, first), (third, second)):
            record = store.get(task)
            assert record.status is Status.FAILED
            assert record.task.reason is not None
            assert record.task.reason.code is ReasonCode.DEPENDENCY_FAILED
            assert record.task.reason.evidence == {"task": parent, "status": "failed"}
            assert record.task.ended_at == later(6)
        assert store.get(whatever).status is Status.QUEUED

    def test_a_cancelled_task_is_no_success(self, store: Store) -> None:
        first = new(store)
        second = new(store, after=on(first))
        store.apply(first, Cancel(), NOW)
        settle(store)
        reason = store.get(second).task.reason
        assert reason is not None
        assert reason.evidence["status"] == "cancelled"

    def test_a_task_waits_for_all_of_several(self, store: Store) -> None:
        a, b, c = (new(store) for _ in range(3))
        child = new(store, after=on(a, b, c))
        for task in (b, a):
            finish(store, task)
            assert settle(store) == 1
            assert store.get(child).status is Status.WAITING
        finish(store, c)
        assert settle(store) == 1
        assert store.get(child).status is Status.QUEUED

    def test_a_waiting_task_can_be_cancelled(self, store: Store) -> None:
        first = new(store)
        second = new(store, after=on(first))
        assert store.apply(second, Cancel(), NOW).status is Status.CANCELLED
        finish(store, first)
        settle(store)
        assert store.get(second).status is Status.CANCELLED

    # Holding

    def test_a_held_task_waits_for_a_user(self, store: Store) -> None:
        bad, good = new(store), new(store)
        child = new(store, after=on(bad, good), if_dependency_fails=HOLD)
        finish(store, bad, well=False)
        settle(store)
        held = store.get(child)
        assert (held.status, held.has_failed_dependency) == (Status.WAITING, True)
        assert store.events(task=child)[-1].kind is EventKind.NOTE
        finish(store, good)
        settle(store)
        assert store.get(child).has_failed_dependency
        assert store.apply(child, Release(), later(9)).status is Status.QUEUED
        assert store.get(child).task.reason is None
        assert store.apply(child, Release(), later(9)) == store.get(child)

    def test_a_released_task_waits_for_the_others(self, store: Store) -> None:
        bad, good = new(store), new(store)
        child = new(store, after=on(bad, good), if_dependency_fails=HOLD)
        assert store.apply(child, Release(), NOW).status is Status.WAITING
        finish(store, bad, well=False)
        settle(store)
        record = store.apply(child, Release(), later(9))
        assert (record.status, record.has_failed_dependency) == (Status.WAITING, False)
        finish(store, good)
        settle(store)
        assert store.get(child).status is Status.QUEUED

    def test_a_held_task_can_be_cancelled_which_ends_those_that_wait_for_it(self, store: Store) -> None:
        bad = new(store)
        held = new(store, after=on(bad), if_dependency_fails=HOLD)
        last = new(store, after=on(held))
        finish(store, bad, well=False)
        assert settle(store) == 1
        store.apply(held, Cancel(), later(9))
        settle(store)
        assert store.get(last).status is Status.FAILED

    # What has ended before

    def test_what_has_ended_before_counts_at_once(self, store: Store) -> None:
        good, bad = new(store), new(store)
        finish(store, good)
        finish(store, bad, well=False)
        records = put(
            store,
            draft(after=on(good)),
            draft(after=on(bad, end=DependencyEnd.ANY)),
            draft(key="ended", after=on(good, bad)),
            draft(after=on(bad), if_dependency_fails=HOLD),
            draft(after=keyed("ended")),
        )
        want = [Status.QUEUED, Status.QUEUED, Status.FAILED, Status.WAITING, Status.FAILED]
        assert [record.status for record in records] == want
        assert [store.get(record.id) for record in records] == records
        assert settle(store) == 0
        assert [e.status for e in store.events(task=records[2].id)] == [Status.WAITING, Status.FAILED]
        assert store.apply(records[3].id, Release(), NOW).status is Status.QUEUED

    # Refusals

    def test_what_is_not_there_cannot_be_waited_for(self, store: Store) -> None:
        others = new(store, user="bob", key="k")
        for one, field in (
            (draft(after=on("t000000000000")), "after.0.task"),
            (draft(after=on(others)), "after.0.task"),
            (draft(after=keyed("k")), "after.0.key"),
            (draft(inputs=(*INPUTS, InputFrom(key="k", path="*"))), "inputs.2.key"),
        ):
            error = refusal(store, one)
            assert isinstance(error, InvalidInput)
            assert error.field == field
            assert error.fix
        assert len(store.queue(NOW, 10)) == 1

    def test_nobody_waits_for_itself(self, store: Store) -> None:
        error = refusal(store, draft(key="a", after=keyed("a")))
        assert isinstance(error, InvalidInput)
        assert "a → a" in error.reason
        circle = [draft(key=key, after=keyed(before)) for key, before in (("a", "c"), ("b", "a"), ("c", "b"))]
        answers = store.submit([*circle, draft(key="d", after=keyed("c")), draft(key="e")], NOW)
        assert [answer.created for answer in answers] == [False] * 4 + [True]
        assert all(isinstance(answer.error, InvalidInput) for answer in answers[:4])
        assert "a → c → b → a" in str(answers[0].error)
        assert "tasks that wait for themselves" in str(answers[3].error)
        assert store.settle(later(1), 10) == 0

    def test_an_atomic_batch_with_a_circle_leaves_nothing(self, store: Store) -> None:
        known = new(store)
        batch = [draft(key="x", after=on(known)), draft(key="a", after=keyed("b")), draft(key="b", after=keyed("a"))]
        answers = store.submit(batch, NOW, atomic=True)
        assert all(answer.error for answer in answers)
        finish(store, known)
        assert settle(store) == 0
        assert store.counts()[Status.WAITING] == 0

    # Batches

    def test_tasks_of_a_batch_name_each_other_by_their_keys_in_any_order(self, store: Store) -> None:
        old = new(store, key="old")
        batch = [
            draft(key="last", after=keyed("mesh", "solve")),
            draft(key="solve", inputs=(*INPUTS, InputFrom(key="mesh", path="m/*"))),
            draft(key="mesh", after=keyed("old")),
        ]
        last, solve, mesh = put(store, *batch)
        assert [record.status for record in (last, solve, mesh)] == [Status.WAITING] * 3
        assert mesh.seq < solve.seq < last.seq
        assert solve.task.inputs_from == (InputFrom(task=mesh.id, path="m/*"),)
        assert last.task.after == on(mesh.id, solve.id)
        for task in (old, mesh.id, solve.id):
            finish(store, task)
            settle(store)
        assert store.get(last.id).status is Status.QUEUED

    def test_a_batch_sent_again_gives_the_same_tasks(self, store: Store) -> None:
        def batch() -> list[Draft]:
            return [draft(key="a"), draft(key="b", after=keyed("a"))]

        first = put(store, *batch())
        again = store.submit([*batch(), draft(key="c", after=keyed("b", "a"))], NOW)
        assert [answer.record for answer in again[:2]] == first
        assert again[2].record is not None
        assert again[2].record.task.after == on(first[1].id, first[0].id)

    def test_who_waits_for_a_refused_one_is_refused(self, store: Store) -> None:
        new(store, key="k")
        bad = draft(key="bad", after=on("t000000000000"))
        answers = store.submit([draft(key="child", after=keyed("bad")), bad, draft(key="k", digest="d2")], NOW)
        assert [type(answer.error) for answer in answers] == [InvalidInput, InvalidInput, Conflict]

    def test_the_same_task_by_id_and_by_key_is_one(self, store: Store) -> None:
        first = new(store, key="k")
        child = new(store, after=(*on(first), *keyed("k")))
        assert store.get(child).task.after == on(first)
        finish(store, first)
        assert settle(store) == 1

    def test_cases_of_a_sweep_may_wait_for_a_task(self, store: Store) -> None:
        first, sent = new(store), sweep()
        store.submit_sweep(sent, [draft(case=case(sent, n), after=on(first)) for n in (1, 2)], NOW)
        assert store.counts(sweep=sent.id)[Status.WAITING] == 2
        finish(store, first)
        settle(store)
        assert store.counts(sweep=sent.id)[Status.QUEUED] == 2

    def test_tasks_are_found_by_what_names_them(self, store: Store) -> None:
        a, b = store.get(new(store, key="k")), store.get(new(store))
        others = new(store, user="bob", key="o")
        asked = (*keyed("k", "o", "none"), *on(b.id, others, "t000000000000"))
        assert store.named("ada", asked) == {(None, "k"): a, (b.id, None): b}
        assert store.named("ada", ()) == {}

    # Bounds

    def test_many_are_told_in_bounded_steps(self, store: Store) -> None:
        first = new(store)
        children = put(store, *(draft(after=on(first)) for _ in range(25)))
        finish(store, first)
        assert [store.settle(later(6), 10) for _ in range(4)] == [10, 10, 5, 0]
        assert {store.get(child.id).status for child in children} == {Status.QUEUED}

    def test_a_long_chain_is_told_in_bounded_steps(self, store: Store) -> None:
        chain = put(store, draft(key="0"), *(draft(key=f"{n}", after=keyed(f"{n - 1}")) for n in range(1, 60)))
        store.apply(chain[0].id, Cancel(), NOW)
        assert [store.settle(later(6), 50) for _ in range(3)] == [50, 9, 0]
        assert {store.get(one.id).status for one in chain[1:]} == {Status.FAILED}

    # What is needed stays

    def test_what_a_task_needs_is_not_forgotten(self, store: Store) -> None:
        first = new(store)
        child = new(store, after=on(first))
        finish(store, first)
        settle(store)
        assert store.ended(later(10**6), 10) == []
        with pytest.raises(Conflict, match="needs it"):
            store.forget(first)
        finish(store, child)
        assert [record.id for record in store.ended(later(10**6), 10)] == [first, child]
        store.forget(first)
        assert store.get(child).task.after == on(first)
        store.forget(child)

    def test_who_is_forgotten_need_not_be_told_of_an_end(self, store: Store) -> None:
        first = new(store)
        [cancelled, waits] = put(store, *(draft(after=on(first)) for _ in range(2)))
        store.apply(cancelled.id, Cancel(), NOW)
        finish(store, first)
        store.forget(cancelled.id)
        assert settle(store) == 1
        assert store.get(waits.id).status is Status.QUEUED
        [second] = put(store, draft(after=on(waits.id)))
        store.apply(second.id, Cancel(), NOW)
        finish(store, waits.id)
        store.forget(second.id)
        assert settle(store) == 0

    # Whatever comes, in whatever order

    @pytest.mark.parametrize("seed", range(6))
    def test_everybody_hears_of_every_end_once_the_rest_is_caught_up_with(self, store: Store, seed: int) -> None:
        chance = random.Random(seed)
        parents: dict[str, dict[str, DependencyEnd]] = {}
        holding: set[str] = set()
        made: list[str] = []

        def submit() -> None:
            names = chance.sample(made, min(len(made), chance.choice([0, 1, 1, 2, 3])))
            ends = {name: chance.choice([*DependencyEnd]) for name in names}
            after = tuple(Dependency(task=name, end=end) for name, end in ends.items())
            holds = bool(after) and chance.random() < 0.2
            task = new(store, after=after, **({"if_dependency_fails": HOLD} if holds else {}))
            parents[task] = ends
            made.append(task)
            if holds:
                holding.add(task)

        for _ in range(150):
            match chance.choice(["submit", "end", "end", "cancel", "settle"]):
                case "submit" if len(made) < 40:
                    submit()
                case "end" if ready := store.queue(later(6), 50):
                    finish(store, chance.choice(ready).id, well=chance.random() < 0.8)
                case "cancel" if made and chance.random() < 0.2:
                    store.apply(chance.choice(made), Cancel(), NOW)
                case "settle":
                    store.settle(later(6), chance.choice([1, 2, 3]))
                case _:
                    pass
        settle(store)
        for task in made:
            record = store.get(task)
            ends = {name: store.get(name).status for name in parents[task]}
            unmet = [
                name
                for name, status in ends.items()
                if not status.is_end
                or (parents[task][name] is DependencyEnd.SUCCESS and status is not Status.SUCCEEDED)
            ]
            lost = [name for name in unmet if ends[name].is_end]
            if not unmet:
                assert record.status is not Status.WAITING
            elif record.status is not Status.CANCELLED:
                assert record.status is (Status.FAILED if lost and task not in holding else Status.WAITING)
                assert record.has_failed_dependency is (bool(lost) and task in holding)
