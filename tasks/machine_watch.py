"""Keeps an eye on the machines while reports come in, and has the store give back what a bad machine cost its tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from simyard.errors import NotFound
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from tasks.errors import Refused, StoreUnavailable
from tasks.placement import Host
from tasks.quarantine import QUICK, Failure, Quarantine
from tasks.record import TaskRecord
from tasks.stimulus import End, Forgive
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

    def set_aside(self, hosts: Iterable[Host], now: datetime) -> dict[str, datetime]:
        """Return the names of the machines that get no tasks, and until when."""
        return self._known.set_aside(_groups(hosts), now)

    def judge(self, task: str, end: End, hosts: Iterable[Host], now: datetime) -> End:
        """Return the report of an end as it is to be applied: as preempted where the machine is at fault."""
        reason = end.outcome.reason
        if end.outcome.status is not Status.FAILED or reason is None or reason.code not in _MAY_BE_THE_MACHINE:
            return end
        with suppress(NotFound):
            record = self._store.get(task)
            if record.status.is_active and record.attempt == end.attempt and self._charge(record, hosts, now):
                machine = record.task.attempts[-1].machine
                message = f"Machine {machine} was set aside, since tasks fail there at once. This one had: "
                evidence = reason.evidence | {"set_aside": machine, "reason": reason.code.value}
                why = Reason(code=ReasonCode.PREEMPTED, message=(message + reason.message)[:4000], evidence=evidence)
                return replace(end, outcome=end.outcome.model_copy(update={"reason": why}))
        return end

    def lost(self, record: TaskRecord, hosts: Iterable[Host], now: datetime) -> None:
        """Take note that nobody carries the newest attempt any more: it was lost, or had succeeded before."""
        if record.task.attempts[-1].reason is not None:
            self._charge(record, hosts, now)

    def saw(self, record: TaskRecord, now: datetime) -> None:
        """Take note of an attempt that does well, or did."""
        if not record.task.attempts or (started := (last := record.task.attempts[-1]).started_at) is None:
            return
        if record.status is Status.SUCCEEDED or (last.ended_at or now) - started >= QUICK:
            with self._lock:
                self._known = self._known.did_well(last.machine, started, now)

    def _charge(self, record: TaskRecord, hosts: Iterable[Host], now: datetime) -> bool:
        """Take note of a failure of the newest attempt; says whether the machine is charged with it."""
        last = record.task.attempts[-1]
        if last.started_at is not None and (last.ended_at or now) - last.started_at >= QUICK:
            return False
        failure = Failure(task=record.id, attempt=last.number, at=now)
        groups = _groups(hosts)
        with self._lock:
            self._known, charged = self._known.failed_fast(last.machine, groups, failure)
            until = self._known.set_aside(groups, now).get(last.machine)
        if len(charged) > 1:
            log.warning("machine %s is set aside until %s: several tasks failed there at once", last.machine, until)
        for other in charged:
            # Who is not forgiven now has paid for a failure; that must not keep the report of this one out.
            with suppress(Refused, NotFound, StoreUnavailable):
                self._store.apply(other.task, Forgive(attempt=other.attempt), now)
        return failure in charged


def _groups(hosts: Iterable[Host]) -> dict[str, str]:
    return {host.name: host.group for host in hosts}
