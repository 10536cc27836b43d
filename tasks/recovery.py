"""What becomes of attempts that nobody carries any more, from what the storage has of them."""

from __future__ import annotations

from datetime import datetime

from simulators.outcome import Outcome
from simyard.reason import Reason, ReasonCode
from simyard.simulator import RuntimeName
from simyard.status import Status
from storage.objects import ObjectStore
from storage.outcomes import attempts_of, read_outcome
from tasks.lifecycle import Dispatch, End, Lost
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


def reclaim(store: Store, objects: ObjectStore, task: str, now: datetime) -> TaskRecord:
    """Return an unended task after the store has caught up with the results that the storage has of it.

    After a restore from a backup the storage is ahead: attempts that the store never heard of may have committed their
    results, and they must not be computed again, nor may a new attempt take one of their numbers.

    Raises:
        NotFound: there is no such task.
        StorageUnavailable: the storage cannot say what there is.
    """
    record = store.get(task)
    if record.status.is_active:
        record = settle(store, objects, task, record.attempt, _RESTORED, now)
    for number in sorted(n for n in attempts_of(objects, task) if n > record.attempt):
        while record.status is Status.QUEUED and record.attempt < number:
            dispatch = Dispatch(machine="unknown", holder="restore", runtime=RuntimeName.NATIVE, lease_until=now)
            record = store.apply(task, dispatch, now)
            record = settle(store, objects, task, record.attempt, _RESTORED, now)
    return record


_RESTORED = Reason(code=ReasonCode.PREEMPTED, message="The store was restored from a backup.")
