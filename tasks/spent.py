"""Snapshots of tasks that have ended: nobody asks for them any more."""

from __future__ import annotations

import logging
from collections import deque

from storage.errors import StorageUnavailable
from storage.objects import ObjectStore
from storage.snapshots import remove_snapshots
from tasks.record import TaskRecord

log = logging.getLogger(__name__)

_AT_ONCE = 10
_MOST = 10_000


class SpentSnapshots:
    """Remembers which tasks have ended with snapshots, and removes these a few at a time.

    What is forgotten, since the process died or the storage was away, goes with the task itself.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._tasks: deque[str] = deque(maxlen=_MOST)

    def see(self, record: TaskRecord) -> None:
        """Take note of a record that has changed."""
        attempts = record.task.attempts
        if record.status.is_end and any(a.snapshot is not None or a.resumed_from is not None for a in attempts):
            self._tasks.append(record.id)

    def clear(self) -> None:
        """Remove snapshots of some of the tasks."""
        for _ in range(min(_AT_ONCE, len(self._tasks))):
            task = self._tasks.popleft()
            try:
                remove_snapshots(self._objects, task)
            except StorageUnavailable as error:
                log.warning("the snapshots of task %s, which has ended, are left: %s", task, error)
