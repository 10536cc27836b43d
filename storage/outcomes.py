"""How an attempt ended, kept beside its manifest, so that a result is known even when its report never arrived."""

from __future__ import annotations

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
