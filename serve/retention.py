"""Removing what has ended: the outputs of one task, or all that the rules of retention let go."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from simulators import catalogue
from simyard.errors import Conflict, NotFound, SimyardError
from storage.objects import ObjectStore
from storage.objects import open_store as open_storage
from storage.outcomes import remove_task
from storage.settings import load_settings
from tasks.record import TaskQuery, TaskRecord
from tasks.retention import Retention, rule_of
from tasks.stimulus import OutputsRemoved
from tasks.store import Store, open_store

_PAGE = 500


@dataclass
class Removed:
    """What has gone, or would go."""

    tasks: int = 0
    outputs: int = 0
    """Tasks that lost their outputs alone."""
    bytes: int = 0


def remove_outputs(store: Store, objects: ObjectStore, record: TaskRecord, now: datetime) -> tuple[TaskRecord, int]:
    """Remove the outputs and logs of an ended task, and return it with the bytes that they had.

    When it is interrupted, doing it again completes it.

    Raises:
        Conflict: it has not ended, has another task's result, or is needed by another one.
    """
    if record.task.reused_from is not None:
        reason = f"The task has the result of task {record.task.reused_from}, and no outputs of its own."
        raise Conflict(reason, fix="Remove those of that task, where nothing else has its result.")
    if record.task.outputs_removed_at is not None:
        return record, 0
    # Nobody takes a result that is about to go; one that was taken just now stays.
    store.withdraw(record.id)
    count = remove_task(objects, record.id, (), simulator=record.task.simulator, project=record.task.project)
    return store.apply(record.id, OutputsRemoved(), now), count


def apply_rules(
    store: Store,
    objects: ObjectStore,
    now: datetime,
    *,
    dry_run: bool = False,
    step: Callable[[int, int], None] | None = None,
) -> Removed:
    """Remove all that the rules let go at a moment; others may use store and storage meanwhile.

    `step` is told how many tasks are done, of how many.
    """
    rules = store.retention()
    total = 0 if step is None else sum(1 for _ in _due(store, rules, now))
    removed = Removed()
    for done, (record, whole) in enumerate(_due(store, rules, now), 1):
        if step is not None:
            step(done, total)
        if store.list(TaskQuery(reused_from=record.id, limit=1)):
            continue
        if not dry_run:
            try:
                removed.bytes += (_forget if whole else _empty)(store, objects, record, now)
            except (Conflict, NotFound):  # it is needed after all, or another one has removed it
                continue
        removed.tasks += whole
        removed.outputs += not whole
    return removed


def _due(store: Store, rules: Sequence[Retention], now: datetime) -> Iterator[tuple[TaskRecord, bool]]:
    """Give the tasks whose time has come, and whether they go as a whole; each may be removed once it was given."""
    for rule in rules:
        if rule.tasks is not None:
            for record in _ended(store, now - rule.tasks, rule, rules, with_outputs=False):
                yield record, True
        if rule.outputs is not None:
            for record in _ended(store, now - rule.outputs, rule, rules, with_outputs=True):
                ended = record.task.ended_at
                if rule.tasks is None or (ended is not None and ended >= now - rule.tasks):
                    yield record, False


def _ended(
    store: Store, before: datetime, rule: Retention, rules: Sequence[Retention], *, with_outputs: bool
) -> Iterator[TaskRecord]:
    last: TaskRecord | None = None
    while page := store.ended(before, _PAGE, last, project=rule.project, with_outputs=with_outputs):
        yield from (record for record in page if rule_of(record.task.project, rules) == rule)
        last = page[-1]


def _forget(store: Store, objects: ObjectStore, record: TaskRecord, now: datetime) -> int:
    """Remove a task with all that it stored; returns the bytes of its outputs."""
    task = record.task
    store.withdraw(task.id)
    tables: tuple[str, ...] = ()
    with suppress(SimyardError):  # the simulator is not in the catalogue any more
        tables = tuple(catalogue.find(task.simulator).tables)
    count = remove_task(objects, task.id, tables, simulator=task.simulator, project=task.project)
    try:
        store.forget(task.id)
    except Conflict:  # a new task asks for its outputs: its record stays for that one's explanation
        store.apply(task.id, OutputsRemoved(), now)
    return count


def _empty(store: Store, objects: ObjectStore, record: TaskRecord, now: datetime) -> int:
    return remove_outputs(store, objects, record, now)[1]


def main() -> int:
    """Apply the rules of this data folder's server once; `python -m serve.retention` is what the keeper starts."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # What users wait for goes first.
    os.nice(19)
    settings = load_settings()
    try:
        store = open_store(settings.task_store)
        try:
            removed = apply_rules(store, open_storage(settings.storage_uri), datetime.now(UTC))
        finally:
            store.close()
    except SimyardError as error:
        logging.getLogger(__name__).warning("the rules of retention could not be applied: %s", error)
        return 2
    if removed.tasks or removed.outputs:
        text = f"simyard: retention removed {removed.tasks} tasks and the outputs of {removed.outputs} others"
        print(text, flush=True)  # noqa: T201 - the log of the keeper
    return 0


if __name__ == "__main__":
    sys.exit(main())
