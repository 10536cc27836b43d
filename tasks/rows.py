"""How tasks, events, keys and lists of input files lie in the rows of a database."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from cluster.ledger import Rental
from simyard.event import Event, EventKind
from simyard.files import InputFile
from simyard.reason import Reason
from simyard.status import Status
from simyard.task import Task
from tasks.admission import Origin
from tasks.dependencies import Edge
from tasks.keys import StoredKey
from tasks.lifecycle import Happened
from tasks.record import MICROS, Draft, SweepDraft, SweepRecord, TaskRecord
from tasks.retention import Retention
from tasks.rules import Account, Pause, Quota, Rules

Row = Sequence[Any]
Known = tuple[TaskRecord, Origin]
"""A task that is there already."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INPUTS = TypeAdapter(tuple[InputFile, ...])
LARGEST = 2**63 - 1
"""The largest number of a column."""
_SHORT = 4096
"""Longest body in characters that is worth remembering."""


def integer(value: int) -> int:
    """Return the number, or the nearest one that a column of 64 bits can hold."""
    return max(-LARGEST, min(value, LARGEST))


def micros(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def optional_micros(moment: datetime | None) -> int | None:
    """Return microseconds since 1970, or None for None."""
    return None if moment is None else micros(moment)


def moment_of(value: int) -> datetime:
    """Return the moment of microseconds since 1970."""
    return _EPOCH + value * _MICROSECOND


def _optional_moment(value: int | None) -> datetime | None:
    return None if value is None else moment_of(value)


@lru_cache(maxsize=2048)
def _short_task(body: str) -> Task:
    """Return the task of a body; each turn of a dispatcher reads the same queue again, and tasks are frozen."""
    return Task.model_validate_json(body)


def record_of(row: Row) -> TaskRecord:
    """Return the record of a row: seq, body, user, retries, failures, losses, ready_at, lease_until, holder, …."""
    seq, body, user, retries, failures, losses, ready_at, lease_until, holder = row[:9]
    return TaskRecord(
        task=_short_task(body) if len(body) <= _SHORT else Task.model_validate_json(body),
        seq=seq,
        user=user,
        retries=retries,
        failures=failures,
        losses=losses,
        ready_at=moment_of(ready_at),
        lease_until=_optional_moment(lease_until),
        holder=holder,
    )


def known_of(found: Iterable[Row]) -> tuple[dict[tuple[str, str], Known], dict[str, Known]]:
    """Return the tasks of rows that end with key and digest, by user and key, and by id."""
    by_key: dict[tuple[str, str], Known] = {}
    by_id: dict[str, Known] = {}
    for row in found:
        record = record_of(row)
        origin = Origin(task=record.id, user=record.user, key=row[9], digest=row[10])
        by_id[record.id] = record, origin
        if origin.key is not None:
            by_key[origin.user, origin.key] = by_id[record.id]
    return by_key, by_id


def changing_columns(record: TaskRecord) -> dict[str, Any]:
    """Return the columns that stimuli change."""
    return {
        "seq": record.seq,
        "status": record.status.value,
        "ready_at": micros(record.ready_at),
        "queue_until": optional_micros(record.queue_until),
        "lease_until": optional_micros(record.lease_until),
        "holder": record.holder,
        "failures": record.failures,
        "losses": record.losses,
        "held": record.task.held,
        "ended_at": optional_micros(record.task.ended_at),
        "reused_from": record.task.reused_from,
        "output_bytes": record.output_bytes,
        "cost": record.cost,
        "cost_month": record.cost_month,
        "body": record.task.model_dump_json(),
    }


def fixed_columns(record: TaskRecord) -> dict[str, Any]:
    """Return the columns that stay as they were at the submission."""
    task = record.task
    return {
        "id": task.id,
        "priority": task.priority,
        "retries": record.retries,
        "user": record.user,
        "simulator": task.simulator,
        "project": task.project,
        "name": task.name,
        "machine_group": task.group,
        "sweep": sweep_of(record),
    }


def task_columns(record: TaskRecord, draft: Draft, inputs: bytes) -> dict[str, Any]:
    """Return the columns of a new task; `inputs` is the hash of its list of input files."""
    origin = {"key": draft.key, "digest": draft.digest, "inputs": inputs, "fingerprint": draft.fingerprint}
    return fixed_columns(record) | changing_columns(record) | origin


def edge_columns(edge: Edge, *, child: int, parent: int) -> dict[str, Any]:
    """Return the columns of what a task waits for."""
    return {"child": child, "parent": parent, "needs_success": edge.needs_success, "tie": edge.tie.value}


def sweep_of(record: TaskRecord) -> str | None:
    """Return the sweep that a task belongs to."""
    return None if record.task.case is None else record.task.case.sweep


def pack_inputs(inputs: tuple[InputFile, ...]) -> bytes:
    """Return a list of input files as text; compress() makes it small."""
    return _INPUTS.dump_json(inputs)


def compress(packed: bytes) -> bytes:
    """Return a packed list as it lies in its row."""
    return zlib.compress(packed, 1)


def inputs_of(row: Row) -> tuple[InputFile, ...]:
    """Return the list of input files of a row."""
    return _INPUTS.validate_json(zlib.decompress(row[0]))


def event_columns(record: TaskRecord, happened: Happened, now: datetime) -> dict[str, Any]:
    """Return the columns of what happened to a task."""
    return {
        "task": record.seq,
        "sweep": sweep_of(record),
        "at": micros(now),
        "kind": happened.kind.value,
        "status": happened.status.value,
        "attempt": None if happened.attempt is None else integer(happened.attempt),
        "reason": None if happened.reason is None else happened.reason.model_dump_json(),
        "message": happened.message,
    }


def event_of_row(row: Row) -> Event:
    """Return the event of a row."""
    seq, task, at, kind, status, attempt, reason, message, sweep = row
    return Event(
        seq=seq,
        task=task,
        at=moment_of(at),
        kind=EventKind(kind),
        status=Status(status),
        attempt=attempt,
        reason=None if reason is None else Reason.model_validate_json(reason),
        message=message,
        sweep=sweep,
    )


def key_of(row: Row) -> StoredKey:
    """Return the API key of a row."""
    key, hashed, user, created_at, expires_at = row
    return StoredKey(
        id=key,
        hash=hashed,
        user=user,
        created_at=moment_of(created_at),
        expires_at=_optional_moment(expires_at),
    )


def pause_columns(pause: Pause) -> dict[str, Any]:
    """Return the columns of a pause; an empty text stands for all."""
    return {"user": pause.user or "", "project": pause.project or "", "group": pause.group or ""}


def quota_columns(quota: Quota) -> dict[str, Any]:
    """Return the columns of a quota; an empty text stands for all projects."""
    running = None if quota.running is None else integer(quota.running)
    storage = None if quota.storage is None else integer(quota.storage)
    limits = {"running": running, "cpus": quota.cpus, "storage": storage}
    costs = {"usd_per_hour": quota.usd_per_hour, "usd_per_month": quota.usd_per_month}
    return {"user": quota.user, "project": quota.project or "", **limits, **costs}


def _account(row: Row) -> tuple[str, str]:
    return row[0], row[1]


def rules_of(
    pauses: Sequence[Row], quotas: Sequence[Row], stored: Mapping[Account, int], spent: Mapping[Account, float]
) -> Rules:
    """Return the pauses and quotas of rows; `stored` and `spent` are what `stored_of` and `spent_of` return."""
    return Rules(
        pauses=frozenset(Pause(user=u or None, project=p or None, group=g or None) for u, p, g in pauses),
        quotas=tuple(
            Quota(user=u, project=p or None, running=r, cpus=c, storage=s, usd_per_hour=hour, usd_per_month=month)
            for u, p, r, c, s, hour, month in sorted(quotas, key=_account)
        ),
        stored=stored,
        spent=spent,
    )


def stored_of(found: Iterable[Row]) -> dict[Account, int]:
    """Return the bytes of outputs of users and their projects, from rows of user, project and bytes."""
    return _sums(found)


def spent_of(found: Iterable[Row]) -> dict[Account, float]:
    """Return the US dollars of users and their projects, from rows of user, project and millionths of a dollar."""
    return {account: cost / MICROS for account, cost in _sums(found).items()}


def _sums(found: Iterable[Row]) -> dict[Account, int]:
    sums: dict[Account, int] = {}
    for user, project, count in found:
        for account in (Account(user), Account(user, project)) if count else ():
            sums[account] = sums.get(account, 0) + int(count)
    return sums


def retention_columns(rule: Retention) -> dict[str, Any]:
    """Return the columns of a rule; an empty text stands for all other projects."""
    return {"project": rule.project or "", "outputs": _seconds(rule.outputs), "tasks": _seconds(rule.tasks)}


def _seconds(age: timedelta | None) -> int | None:
    return None if age is None else int(age.total_seconds())


def retention_of_row(row: Row) -> Retention:
    """Return the rule of a row."""
    project, outputs, tasks = row
    return Retention(project=project or None, outputs=_age(outputs), tasks=_age(tasks))


def _age(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def pack_rentals(rentals: Sequence[Rental]) -> str:
    """Return machines of the ledger as the JSON that a statement takes."""
    return json.dumps(
        [
            {
                "id": one.id,
                "group": one.group,
                "machine_type": one.machine_type,
                "market": one.market,
                "zone": one.zone,
                "launched_at": micros(one.launched_at),
                "last_seen_at": micros(one.last_seen_at),
                "ended_at": optional_micros(one.ended_at),
                # A database's text has no such character, and a cloud's may.
                "why_ended": one.why_ended.replace("\0", ""),
                "price_per_hour": one.price_per_hour,
            }
            for one in rentals
        ]
    )


def rental_of_row(row: Row) -> Rental:
    """Return the machine of a row of the ledger."""
    name, group, machine_type, market, zone, launched_at, last_seen_at, ended_at, why_ended, price = row
    return Rental(
        id=name,
        group=group,
        machine_type=machine_type,
        market=market,
        zone=zone,
        launched_at=moment_of(launched_at),
        last_seen_at=moment_of(last_seen_at),
        ended_at=_optional_moment(ended_at),
        why_ended=why_ended,
        price_per_hour=price,
    )


def sweep_columns(sweep: SweepDraft, cases: int, now: datetime) -> dict[str, Any]:
    """Return the columns of a sweep."""
    return {
        "id": sweep.id,
        "user": sweep.user,
        "key": sweep.key,
        "digest": sweep.digest,
        "name": sweep.name,
        "project": sweep.project,
        "simulator": sweep.simulator,
        "version": sweep.version,
        "columns": json.dumps(sweep.columns),
        "cases": cases,
        "created_at": micros(now),
    }


def sweep_of_row(row: Row) -> SweepRecord:
    """Return the sweep of a row."""
    seq, sweep, user, key, digest, name, project, simulator, version, columns, cases, created_at, cost = row
    draft = SweepDraft(
        id=sweep,
        user=user,
        key=key,
        digest=digest,
        name=name,
        project=project,
        simulator=simulator,
        version=version,
        columns=tuple(json.loads(columns)),
    )
    return SweepRecord(draft=draft, seq=seq, cases=cases, created_at=moment_of(created_at), cost=cost)
