"""Says in words why a task stands where it stands, from the same reasons that the code branches on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from simyard.event import Event, EventKind
from simyard.group import GroupState, Machine, MachineGroup
from simyard.reason import Reason, ReasonCode
from simyard.resources import GIB, KIB, MIB, Resources
from simyard.status import Status
from simyard.task import Attempt, Explanation, Task
from tasks.forecast import Forecast
from tasks.record import TaskRecord
from tasks.rooms import fits_empty, fits_now
from tasks.rules import MONTHLY

_LINE = 200
_NAMED = 5
"""How many of the tasks that it waits for an explanation names."""
_SHOWN = 50
"""An explanation has the newest events; a longer story is read as events."""


def explain(
    record: TaskRecord,
    events: Sequence[Event],
    position: int | None,
    groups: Sequence[MachineGroup],
    expected: Forecast | None = None,
    barrier: Reason | None = None,
    parents: Sequence[TaskRecord] = (),
) -> Explanation:
    """Return why the task stands where it stands, what was observed, and what its user may do.

    `events` are the task's, oldest first; `position` says how many queued tasks come before it, None when it does not
    move on in the queue; `groups` are the machine groups as they are now; `expected` says when it may start; `barrier`
    is a pause or a quota that keeps it back; `parents` are those of the tasks it waits for that are there.
    """
    summary, hint = _summary(record, position, groups)
    if record.status is Status.WAITING:
        summary, hint = _waiting(record, parents)
    if barrier is not None and record.status is Status.QUEUED and not record.task.held:
        summary, hint = f"{summary} It does not start: {_sentence(barrier.message)}", _lifted(barrier)
    ending = next((one for one in groups if one.name == record.task.group and one.state is GroupState.ENDING), None)
    if ending is not None and record.status is Status.QUEUED:
        summary = f"It is queued in group {ending.name}, which is ending: it does not start there."
        hint = f"Cancel it, or make a group {ending.name} again once this one has ended: `simyard groups create`."
    if expected is not None:
        summary += f" It may start at about {_time(expected.start)}: {expected.basis}."
    details = (*_attempts(record.task), *(_told(event) for event in events[-_SHOWN:]))
    return Explanation(
        task=record.id,
        status=record.status,
        summary=summary,
        details=details,
        next=hint,
        position=position,
        expected_start=None if expected is None else expected.start,
    )


def _summary(record: TaskRecord, position: int | None, groups: Sequence[MachineGroup]) -> tuple[str, str | None]:
    task, attempt = record.task, f"Attempt {record.attempt}"
    where = f" on {task.attempts[-1].machine}" if task.attempts else ""
    stopping = " A cancel was asked for and is on its way." if task.cancel_requested else ""
    watch = f"Follow it with `simyard tasks logs {task.id} --follow`."
    match task.status:
        case Status.WAITING:
            return _waiting(record, ())
        case Status.QUEUED:
            return _queued(record, position, groups)
        case Status.PREPARING:
            text = f"{attempt} brings inputs and the {task.simulator} {task.version} environment in place{where}."
            return text + stopping, None
        case Status.RUNNING:
            return f"{attempt} runs{where} since {_time(task.started_at)}.{stopping}", watch
        case Status.FINALIZING:
            return f"The commands of attempt {record.attempt} have ended{where}; its outputs are being stored.", None
        case Status.SUCCEEDED:
            if task.reused_from is not None:
                text = (
                    f"It has the result of task {task.reused_from}, which did exactly the same; nothing was computed."
                )
                return text, f"Get the outputs with `simyard tasks download {task.id}`."
            text = f"It succeeded with attempt {record.attempt}{where} at {_time(task.ended_at)}."
            return text, f"Get the outputs with `simyard tasks download {task.id}`."
        case Status.FAILED | Status.TIMED_OUT:
            word = "failed" if task.status is Status.FAILED else "ran into its time limit"
            return f"It {word} at {_time(task.ended_at)}{_because(task.reason)}", _after_failure(task)
        case Status.CANCELLED:
            kept = f"What it had written is kept: `simyard tasks download {task.id}`." if task.result else None
            return f"A user cancelled it; it ended at {_time(task.ended_at)}.", kept
        case _:
            assert_never(task.status)


def _waiting(record: TaskRecord, parents: Sequence[TaskRecord]) -> tuple[str, str | None]:
    task = record.task
    if record.has_failed_dependency:
        hint = f"Let it start all the same with `simyard tasks release {task.id}`, or cancel it."
        return f"It is held{_because(task.reason)}", hint
    found = {parent.id: parent.status for parent in parents}
    going = [one for one in task.after if one.task not in found or not found[one.task].is_end]
    shown = [f"{one.task}, which is {found.get(one.task or '', 'not known')}" for one in going[:_NAMED]]
    text = "; ".join(shown) + (f"; and {len(going) - _NAMED} more" if len(going) > _NAMED else "")
    text = f"It waits for {text}." if going else "All that it waits for has ended, and it is being queued."
    if task.held:
        return f"{text} It is held as well.", f"Let it go on with `simyard tasks release {task.id}`."
    return text, f"See why the first one goes on: `simyard tasks explain {going[0].task}`." if going else None


def _queued(record: TaskRecord, position: int | None, groups: Sequence[MachineGroup]) -> tuple[str, str | None]:
    task = record.task
    ahead = "" if position is None else " It is the next one." if position == 0 else f" {_tasks(position)} before it."
    again = f" as attempt {record.attempt + 1}" if record.attempt else ""
    if task.held:
        text = f"It is held, queued{again} in group {task.group}: it does not start before it is released."
        return text, f"Release it with `simyard tasks release {task.id}`."
    text = f"It is queued{again} in group {task.group}"
    if task.reason is not None:
        text += f", because: {_sentence(task.reason.message)}"
    else:
        text += "."
    backed_off = f" It does not start before {_time(record.ready_at)}." if record.failures or record.losses else ""
    if record.failures:
        text += f" {record.failures} of its {record.retries} retries {'is' if record.failures == 1 else 'are'} used."
    hint = _place_hint(task, next((group for group in groups if group.name == task.group), None), groups)
    return text + backed_off + ahead, hint


def _lifted(barrier: Reason) -> str:
    """Return what to do about a pause or a quota."""
    if barrier.code is ReasonCode.QUOTA and barrier.evidence.get("quota") == "storage":
        return "It starts once outputs were removed: `simyard tasks remove-outputs`; an administrator sets the quota."
    if barrier.code is ReasonCode.QUOTA and barrier.evidence.get("quota") == MONTHLY:
        return "It starts with the next month, or once an administrator has raised the quota."
    if barrier.code is ReasonCode.QUOTA:
        return "It starts once enough of what runs has ended; an administrator sets the quota."
    if barrier.evidence.get("user") is None:
        return "An administrator has paused it."
    project = barrier.evidence.get("project")
    verb = f"groups resume {barrier.evidence.get('group')}" if project is None else f"projects resume {project}"
    return f"Let it go on with `simyard {verb}`."


def _place_hint(task: Task, group: MachineGroup | None, groups: Sequence[MachineGroup]) -> str | None:
    need = task.resources
    asked = _asked(need)
    if group is None:
        known = ", ".join(sorted(other.name for other in groups)) or "none"
        return f"There is no group {task.group} now (known: {known}). Start its machines, or submit to another group."
    if not group.places:
        return f"Group {group.name} has no machine yet. It starts when one has joined."
    fitting = [machine for machine in group.places if fits_empty(need, machine)]
    if not fitting:
        cpus, memory = max(m.cpus for m in group.places), max(m.memory for m in group.places)
        gpus = max(m.gpus for m in group.places)
        disks = [m.disk for m in group.places if m.disk is not None]
        kept = f" and {_bytes(max(disks))} of disk to keep for tasks" if need.reserved_disk and disks else ""
        has = f"{cpus:g} cpus, {_bytes(memory)} and {gpus} GPUs{kept}"
        return f"It asks for {asked}; the machines of {group.name} have at most {has}. Cancel it and ask for less."
    large = [m for m in fitting if isinstance(m, Machine)]
    if group.max is None and len(large) < need.machines:
        has = f"group {group.name} has {len(large)} that are large enough"
        return f"It asks for {asked}; {has}. It starts when there are more, or cancel it and ask for fewer."
    aside = [m for m in large if m.set_aside_until is not None]
    told = "".join(
        f" {m.name} is set aside until {_time(m.set_aside_until)}, since several tasks failed there at once."
        for m in aside
    )
    free = [m for m in large if m.set_aside_until is None and not m.is_leaving]
    if sum(fits_now(need, machine) for machine in free) >= need.machines:
        return f"A machine has room for it; it starts when its turn comes.{told}"
    if group.troubles and len(group.machines) < (group.max or 0):
        return f"It asks for {asked}, and no machine of {group.name} can be started: {_trouble(group)}{told}"
    if group.max is not None and len(group.machines) < group.max:
        return f"It asks for {asked}, and a machine of {group.name} is being started.{told}"
    if need.whole_machine:
        return f"It asks for {asked}, and every machine of {group.name} has something to do now.{told}"
    return f"It asks for {asked}, and every machine of {group.name} that is large enough is taken now.{told}"


def _trouble(group: MachineGroup) -> str:
    """Return why machines cannot be started, and what to do about it."""
    told = [
        f"{one.machine_type} {one.market}: {one.code}: {_sentence(one.message)} {one.fix}" for one in group.troubles
    ]
    first = min(one.next_try for one in group.troubles)
    return f"{' '.join(told)} The next try is at {_time(first)}."


def _asked(need: Resources) -> str:
    disk = f" and {_bytes(need.disk)} of disk" if need.reserved_disk else ""
    each = f"{need.cpus:g} cpus, {_bytes(need.memory)}" + (f" and {need.gpus} GPUs" if need.gpus else "") + disk
    if need.machines > 1:
        return f"{need.machines} {f'whole machines{disk}' if need.whole_machine else f'machines with {each}'} at once"
    return f"a whole machine{disk}" if need.whole_machine else each


def _after_failure(task: Task) -> str | None:
    logs = f"Read what it printed: `simyard tasks logs {task.id}`."
    if task.reason is None:
        return logs
    match task.reason.code:
        case ReasonCode.EXIT_CODE | ReasonCode.SIGNAL:
            return logs
        case ReasonCode.OUT_OF_MEMORY:
            more = f"--memory {2 * task.resources.memory // MIB}MiB"
            return f"It had {_bytes(task.resources.memory)}. Submit it again with more, such as {more}."
        case ReasonCode.DISK_FULL:
            if "limit" not in task.reason.evidence:
                return "The machine's own disk was full. Free room on it, or take another group."
            return f"It had {_bytes(task.resources.disk)} of disk. Submit it again with more --disk, or write less."
        case ReasonCode.TIME_LIMIT:
            longer = "Submit it again with a longer limit, or without one."
            return f"{longer} {logs}" if task.started_at is not None else longer
        case ReasonCode.MACHINE_LOST | ReasonCode.PREEMPTED:
            return "Submit it again. If its machines are lost again, ask for more memory or for another group."
        case ReasonCode.IMAGE_ERROR:
            return f"See whether the environment can be made: `simyard images build {task.simulator}`."
        case ReasonCode.INPUT_ERROR:
            return "Submit it again; inputs that the storage lacks are sent anew."
        case ReasonCode.OUTPUT_ERROR:
            return "See whether the storage can be reached and has room, then submit it again."
        case ReasonCode.INTERNAL:
            return "This is a defect of Simyard: report it with the output of this command."
        case (
            ReasonCode.CANCELLED_BY_USER
            | ReasonCode.DEPENDENCY_FAILED
            | ReasonCode.NO_MACHINE_YET
            | ReasonCode.GROUP_FULL
            | ReasonCode.HELD
            | ReasonCode.PAUSED
            | ReasonCode.QUOTA
            | ReasonCode.NO_SUCH_CAPACITY
            | ReasonCode.LAUNCH_FAILED
        ):
            return None
        case _:
            assert_never(task.reason.code)


def _attempts(task: Task) -> list[str]:
    return [_attempt(attempt) for attempt in task.attempts[-_SHOWN:]]


def _attempt(attempt: Attempt) -> str:
    where = " and ".join((attempt.machine, *attempt.others))
    parts = [f"Attempt {attempt.number} on {where} from {_time(attempt.created_at)}"]
    if attempt.ended_at is None:
        parts.append("goes on")
    else:
        parts.append(f"ended {_time(attempt.ended_at)}")
    if attempt.adoptions:
        parts.append("taken over once" if attempt.adoptions == 1 else f"taken over {attempt.adoptions} times")
    if attempt.staged is not None and attempt.staged.kept:
        came, had = _bytes(attempt.staged.fetched), _bytes(attempt.staged.kept)
        parts.append(f"{came} of inputs fetched and {had} there already")
    if attempt.exit_code is not None:
        parts.append(f"exit code {attempt.exit_code}")
    if attempt.cpu_seconds is not None:
        parts.append(f"{attempt.cpu_seconds:.1f} s of cpu")
    if attempt.peak_memory is not None:
        parts.append(f"at most {_bytes(attempt.peak_memory)} of memory")
    text = ", ".join(parts)
    if attempt.reason is None:
        return f"{text}."
    return f"{text}: {_sentence(attempt.reason.message)}{_evidence(attempt.reason)}{_last_line(attempt)}"


def _last_line(attempt: Attempt) -> str:
    """Return the last line that a failed attempt printed, where it is kept; complaints go to standard error."""
    lines = (attempt.stderr_tail or attempt.stdout_tail).strip().splitlines()
    return f" It printed last: {lines[-1].strip()[-_LINE:]}" if lines else ""


def _told(event: Event) -> str:
    message = event.message or (event.reason.message if event.reason else "")
    said = f": {_sentence(message)}" if message else "."
    number = f" (attempt {event.attempt})" if event.attempt is not None else ""
    match event.kind:
        case EventKind.SUBMITTED:
            what = "submitted"
        case EventKind.STATUS:
            what = f"became {event.status}"
        case EventKind.ATTEMPT_LOST:
            what = "lost its machine"
        case EventKind.CANCEL_REQUESTED:
            what = "a cancel was asked for"
        case EventKind.REPORT_REFUSED:
            what = "a report was refused"
        case EventKind.NOTE:
            what = "note"
        case _:
            assert_never(event.kind)
    return f"{_time(event.at)} {what}{number}{said}"


def _because(reason: Reason | None) -> str:
    return f": {_sentence(reason.message)}{_evidence(reason)}" if reason else "."


def _evidence(reason: Reason) -> str:
    shown = [f"{name.replace('_', ' ')} {value}" for name, value in reason.evidence.items() if value is not None]
    return f" ({', '.join(shown)})" if shown else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _tasks(count: int) -> str:
    return "About 1 task comes" if count == 1 else f"About {count} tasks come"


def _time(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _bytes(size: int) -> str:
    unit = next(((name, one) for name, one in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)) if size >= one), None)
    return f"{size} B" if unit is None else f"{size / unit[1]:.4g} {unit[0]}"
