"""Queued tasks that ask for it get the result of an earlier task that did exactly the same, and compute nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from simyard.errors import NotFound
from storage.errors import StorageUnavailable
from storage.objects import ObjectStore
from storage.parallel import each
from storage.paths import Paths
from tasks.errors import Refused
from tasks.record import TaskRecord
from tasks.stimulus import Reused
from tasks.store import Store

log = logging.getLogger(__name__)


def take_results(store: Store, objects: ObjectStore, queue: Sequence[TaskRecord], now: datetime) -> list[TaskRecord]:
    """Return the queue without the tasks that ended just now with an earlier one's result.

    They need no machine, so it does not matter whether one is free. A result whose outputs are not in the storage any
    more is computed again.
    """
    asked = [record.id for record in queue if record.task.reuse]
    if not asked:
        return list(queue)
    ended = set()
    for task, source in _stored(objects, store.earlier_results(asked)).items():
        assert source.task.result is not None, "what has succeeded has a result"
        # Cancelled, or withdrawn, meanwhile.
        with suppress(Refused, NotFound):
            store.apply(task, Reused(source=source.id, result=source.task.result), now)
            ended.add(task)
    return [record for record in queue if record.id not in ended]


def _stored(objects: ObjectStore, found: Mapping[str, TaskRecord]) -> dict[str, TaskRecord]:
    """Return those whose source still has its outputs in the storage."""
    sources = {source.id: source for source in found.values()}

    def is_there(source: TaskRecord) -> bool:
        return objects.head(Paths.manifest(source.id, source.task.result or 0)) is not None

    try:
        there = dict(zip(sources, each(is_there, list(sources.values()), threads=16), strict=True))
    except StorageUnavailable as error:
        log.warning("whether results can be reused is not known: %s", error)
        return {}
    return {task: source for task, source in found.items() if there[source.id]}
