"""Tasks and reports to test with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from simulators.outcome import Outcome
from simyard.files import InputFile
from simyard.reason import Reason, ReasonCode
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from simyard.task import Case, TaskSpec
from simyard.words import checked_before, new_sweep_id, new_task_id
from tasks.lifecycle import Dispatch, End, Lost, Progress, new_record, step
from tasks.record import Draft, SweepDraft, TaskRecord

NOW = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
WEIRD = "a 'b' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"
INPUTS = (
    InputFile(path="model.inp", sha256="a" * 64, size=12),
    InputFile(path=f"in/{WEIRD.replace('/', '_')}", sha256="b" * 64, size=0, mode=0o755),
)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def draft(
    *,
    user: str = "ada",
    key: str | None = None,
    digest: str = "d1",
    case: Case | None = None,
    fingerprint: str | None = None,
    **spec: Any,
) -> Draft:
    fields = {
        "simulator": "swmm",
        "version": "5.2.4",
        "runtime": RuntimeName.NATIVE,
        "inputs": INPUTS,
        "commands": (Command(argv=("run", WEIRD)),),
        "parameters": {"input_file": "model.inp", "steps": 3, "dt": 0.5, "quiet": True, "one": 1.0},
        "metadata": {"note": WEIRD},
    }
    return Draft(
        id=new_task_id(),
        spec=TaskSpec(**(fields | spec)),
        user=user,
        key=key,
        digest=digest,
        case=case,
        fingerprint=fingerprint,
    )


def like(first: Draft, **changes: Any) -> Draft:
    """Return another draft, whose spec has the first one's objects but for what changes: so they are after a batch."""
    fields = dict(first.spec.__dict__)
    fields |= {name: changes.pop(name) for name in [*changes] if name in {"name", "metadata", "parameters"}}
    spec = checked_before(TaskSpec, fields)
    return first._replace(id=new_task_id(), spec=spec, **changes)


def sweep(**fields: Any) -> SweepDraft:
    common = {"user": "ada", "digest": "d1", "name": None, "project": "default", "simulator": "swmm"}
    return SweepDraft(**({"id": new_sweep_id(), "version": "5.2.4", "columns": ("velocity",)} | common | fields))


def case(of: SweepDraft, number: int) -> Case:
    return Case(sweep=of.id, number=number, values={"velocity": 2.5 * number, "note": WEIRD, "on": True, "n": number})


def dispatch(*, holder: str = "sim-1", until: float = 30) -> Dispatch:
    return Dispatch(machine="node-1", holder=holder, runtime=RuntimeName.NATIVE, lease_until=later(until))


def reason(code: ReasonCode, message: str = "Something happened.") -> Reason:
    return Reason(code=code, message=message, evidence={"exit_code": 3, "text": WEIRD, "share": 0.25, "none": None})


def succeeded() -> Outcome:
    return Outcome(status=Status.SUCCEEDED, exit_code=0, peak_memory=1000, cpu_seconds=1.25, stored=True)


def failed(code: ReasonCode = ReasonCode.EXIT_CODE, *, stored: bool = True) -> Outcome:
    return Outcome(status=Status.FAILED, reason=reason(code), exit_code=3, stored=stored)


def queued(**spec: Any) -> TaskRecord:
    return new_record(draft(**spec), 1, NOW).record


def running(attempt: int = 1, **spec: Any) -> TaskRecord:
    record = queued(**spec)
    for number in range(1, attempt + 1):
        record = step(record, dispatch(), NOW).record
        record = step(record, Progress(number, Status.RUNNING), NOW).record
        if number < attempt:
            record = step(record, Lost(number, reason(ReasonCode.PREEMPTED)), NOW).record
    return record


def ended(outcome: Outcome, **spec: Any) -> TaskRecord:
    return step(running(**spec), End(1, outcome), later(5)).record
