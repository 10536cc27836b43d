"""Keeps an eye on the machines while reports come in, and has the store give back what a bad machine cost its tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from simyard.errors import NotFound
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from tasks.errors import Refused
from tasks.quarantine import QUICK, Failure, Quarantine
from tasks.record import TaskRecord
from tasks.stimulus import End, Forgive, Lost
from tasks.store import Store

log = logging.getLogger(__name__)

_MAY_BE_THE_MACHINE = frozenset(
    {
        ReasonCode.EXIT_CODE,
        ReasonCode.SIGNAL,
        ReasonCode.DISK_FULL,
        ReasonCode.IMAGE_ERROR,
        ReasonCode.INPUT_ERROR,
        ReasonCode.OUTPUT_ERROR,
        ReasonCode.MACHINE_LOST,
        ReasonCode.INTERNAL,
    }
)


class MachineWatch:
    """Knows which machines are set aside; safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known = Quarantine()

    def until(self, machine: str, now: datetime) -> datetime | None:
        """Return until when a machine, by name, is set aside; None for one that is not."""
        return self._known.until(machine, now)

    def judge(self, task: str, end: End, groups: Mapping[str, str], now: datetime) -> End | Lost:
        """Return the report of an end as it is to be applied: as a loss without charge where the machine is at fault.

        `groups` has the group of each machine, by name.
        """
        reason = end.outcome.reason
        if end.outcome.status is not Status.FAILED or reason is None or reason.code not in _MAY_BE_THE_MACHINE:
            return end
        with suppress(NotFound):
            record = self._store.get(task)
            if record.status.is_active and record.attempt == end.attempt and self._charge(record, groups, now):
                machine = record.task.attempts[-1].machine
                message = f"Machine {machine} was set aside, since tasks fail there at once. This one had: "
                evidence = reason.evidence | {"set_aside": machine, "reason": reason.code.value}
                why = Reason(code=ReasonCode.PREEMPTED, message=(message + reason.message)[:4000], evidence=evidence)
                return Lost(attempt=end.attempt, reason=why)
        return end

    def lost(self, record: TaskRecord | None, groups: Mapping[str, str], now: datetime) -> None:
        """Take note that the process which carried the newest attempt died; None means that this was not so."""
        if record is not None and record.task.attempts[-1].reason is not None:
            self._charge(record, groups, now)

    def saw(self, record: TaskRecord, now: datetime) -> None:
        """Take note of an attempt that does well, or did."""
        if not record.task.attempts or (started := (last := record.task.attempts[-1]).started_at) is None:
            return
        if record.status is Status.SUCCEEDED or (last.ended_at or now) - started >= QUICK:
            with self._lock:
                self._known = self._known.did_well(last.machine, started, now)

    def _charge(self, record: TaskRecord, groups: Mapping[str, str], now: datetime) -> bool:
        """Take note of a failure of the newest attempt; says whether the machine is charged with it."""
        last = record.task.attempts[-1]
        if last.started_at is not None and (last.ended_at or now) - last.started_at >= QUICK:
            return False
        failure = Failure(task=record.id, attempt=last.number, at=now)
        with self._lock:
            before = self._known.until(last.machine, now)
            self._known, charged = self._known.failed_fast(last.machine, groups, failure)
            until = self._known.until(last.machine, now)
        if until is not None and before is None:
            log.warning("machine %s is set aside until %s: several tasks failed there at once", last.machine, until)
        for other in charged:
            with suppress(Refused, NotFound):
                self._store.apply(other.task, Forgive(attempt=other.attempt), now)
        return failure in charged
