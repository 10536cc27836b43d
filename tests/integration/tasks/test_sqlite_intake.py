"""New tasks go into SQLite many at a time, and become what each would become by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from simyard.dependency import Dependency
from simyard.errors import Conflict
from simyard.words import new_task_id
from tasks.record import Draft
from tasks.sqlite.store import SqliteStore
from tests.unit.tasks.samples import NOW, draft, like


def alike(first: Draft, count: int, **own: Any) -> list[Draft]:
    """Return so many drafts that are like the first one."""
    return [
        like(first, key=f"{first.key}-{i}", digest=f"{first.digest}-{i}", **{"metadata": {"case": i}, **own})
        for i in range(count)
    ]


def rows_after(file: Path, known: Draft, drafts: Sequence[Draft]) -> dict[str, list[Any]]:
    """Return all rows of a store that knows one draft and then gets others."""
    with closing(SqliteStore(file)) as store:
        store.submit([known], NOW)
        answers = store.submit(drafts, NOW)
        assert [answer.id for answer in answers] == [one.id for one in drafts]
        assert [answer.created for answer in answers] == [one.id != known.id for one in drafts]
        for answer in answers:
            assert answer.record == store.get(str(answer.id))
    with closing(sqlite3.connect(file)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("tasks", "events", "input_lists")
        }


def test_new_ones_become_the_same_with_and_without_a_known_one_among_them(tmp_path: Path) -> None:
    many, few, other = draft(key="many"), draft(key="few", priority=2), draft(user="grace", key="o", project="p")
    lone = [draft(name=f"lone {i}", parameters={"steps": i}) for i in range(40)]
    kinds = [*alike(many, 1500), *alike(few, 3, name="one of few"), *alike(other, 20), *lone]
    # In turns, as the kinds of a batch may come.
    drafts = [kinds[i * 7 % len(kinds)] for i in range(len(kinds))]
    known = draft(key="known")
    fresh = rows_after(tmp_path / "fresh.db", known, drafts)
    beside = rows_after(tmp_path / "beside.db", known, [*drafts[:50], known, *drafts[50:]])
    assert len(fresh["tasks"]) == 1 + len(drafts) == 1564
    assert fresh == beside


def test_one_request_twice_in_a_batch_is_one_task(tmp_path: Path) -> None:
    first = draft(key="k")
    with closing(SqliteStore(tmp_path / "twice.db")) as store:
        answers = store.submit([*alike(draft(key="a"), 30), first, first._replace(id=new_task_id())], NOW)
        assert [answer.created for answer in answers] == [True] * 31 + [False]
        assert answers[-1].id == first.id


def test_nothing_is_left_of_new_ones_where_one_of_a_batch_is_refused_and_none_shall_go_in(tmp_path: Path) -> None:
    first = draft(key="k")
    with closing(SqliteStore(tmp_path / "atomic.db")) as store:
        store.submit([first], NOW)
        batch = [*alike(draft(key="a"), 30), first._replace(id=new_task_id(), digest="another")]
        answers = store.submit(batch, NOW, atomic=True)
        assert [type(answer.error) for answer in answers] == [Conflict] * 31
        assert sum(store.counts().values()) == 1


@pytest.mark.parametrize("count", [1, 40])
def test_who_waits_for_a_new_one_goes_in_with_it(tmp_path: Path, count: int) -> None:
    first = draft(key="first")
    waiting = [draft(key=f"w{i}", after=(Dependency(key="first"),)) for i in range(count)]
    with closing(SqliteStore(tmp_path / "waits.db")) as store:
        answers = store.submit([*waiting, first, *alike(draft(key="a"), 20)], NOW)
        assert [answer.record.status for answer in answers if answer.record] == ["waiting"] * count + ["queued"] * 21
        for one in waiting:
            assert [event.kind for event in store.events(task=one.id)] == ["submitted"]
            assert store.get(one.id).task.after == (Dependency(task=first.id),)
