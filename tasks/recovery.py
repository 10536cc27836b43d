"""What becomes of an attempt that nobody carries any more."""

from __future__ import annotations

from datetime import datetime

from simulators.outcome import Outcome
from simyard.reason import Reason
from storage.objects import ObjectStore
from storage.outcomes import read_outcome
from tasks.lifecycle import End, Lost
from tasks.record import TaskRecord
from tasks.store import Store


def settle(
    store: Store,
    objects: ObjectStore,
    task: str,
    attempt: int,
    reason: Reason,
    now: datetime,
    *,
    holder: str | None = None,
) -> TaskRecord:
    """Return the task after its attempt was taken as ended where its result is stored, and as lost where it is not.

    With `holder` it is lost only where no other process has taken it over.

    Raises:
        Refused: the attempt is not the current one, or has ended.
        StorageUnavailable: the storage cannot say whether there is a result.
    """
    settled = settle_stored(store, objects, task, attempt, now)
    return settled or store.apply(task, Lost(attempt=attempt, reason=reason, holder=holder), now)


def settle_stored(store: Store, objects: ObjectStore, task: str, attempt: int, now: datetime) -> TaskRecord | None:
    """Return the task after its attempt was taken as ended where its result is stored; None where it is not.

    Raises:
        Refused: the attempt is not the current one, or has ended.
        StorageUnavailable: the storage cannot say whether there is a result.
    """
    stored = read_outcome(objects, task, attempt)
    if stored is None:
        return None
    return store.apply(task, End(attempt=attempt, outcome=Outcome.model_validate_json(stored)), now)
