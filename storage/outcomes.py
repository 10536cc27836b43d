"""How an attempt ended, kept beside its manifest, so that a result is known even when its report never arrived."""

from __future__ import annotations

from collections.abc import Iterable

from storage.errors import ObjectNotFound
from storage.objects import ObjectStore
from storage.paths import Paths
from storage.retries import Retries


def put_outcome(store: ObjectStore, task: str, attempt: int, outcome: bytes) -> None:
    """Store how an attempt ended; it counts once the attempt's manifest is committed.

    Raises:
        StorageUnavailable: the storage failed too often.
    """
    Retries().run(lambda: store.put(Paths.outcome(task, attempt), outcome))


def read_outcome(store: ObjectStore, task: str, attempt: int) -> bytes | None:
    """Return how an attempt ended; None where it has no committed manifest and so no result."""
    if store.head(Paths.manifest(task, attempt)) is None:
        return None
    try:
        return store.get(Paths.outcome(task, attempt))
    except ObjectNotFound:
        return None


def attempts_of(store: ObjectStore, task: str) -> set[int]:
    """Return the numbers of the attempts of which anything is stored."""
    numbers = (Paths.attempt_of(info.key) for info in store.list(Paths.task(task)))
    return {number for number in numbers if number is not None}


def remove_task(store: ObjectStore, task: str, tables: Iterable[str], *, simulator: str, project: str) -> int:
    """Remove all that a task's attempts stored, and its rows of the tables; returns the bytes that the former had.

    Manifests go first, so that a result is never there in part.
    """
    found = list(store.list(Paths.task(task)))
    manifests = {Paths.manifest(task, number) for info in found if (number := Paths.attempt_of(info.key)) is not None}
    store.delete(sorted(manifests))
    store.delete(Paths.table(name, simulator, project, task) for name in tables)
    store.delete(info.key for info in found if info.key not in manifests)
    return sum(info.size for info in found)
