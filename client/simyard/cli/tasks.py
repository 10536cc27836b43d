"""`simyard tasks`: look at tasks, wait for them, read them, end them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import session
from simyard.cli.failures import INTERRUPTED, say
from simyard.cli.fetching import fetch, fetch_if_any
from simyard.cli.options import DownloadTo, Glob, Json, TaskArgument
from simyard.cli.show import confirm, say_json, say_json_line, say_pairs, say_table
from simyard.cli.text import ago, duration, moment, plain, size, usd
from simyard.cli.watching import say_how_back, watch

if TYPE_CHECKING:
    from simyard.checkpoint import Checkpoint, Snapshot
    from simyard.resources import Limits
    from simyard.task import Explanation
    from simyard.task import Task as TaskInfo

commands = typer.Typer(
    help="Look at tasks, wait for them, read them, end them.", no_args_is_help=True, rich_markup_mode=None
)


@commands.command("list")
def list_tasks(
    status: Annotated[list[str] | None, typer.Option(metavar="STATUS", help="Only these; may come again.")] = None,
    simulator: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this simulator.")] = None,
    project: Annotated[str | None, typer.Option(metavar="P", help="Only of this project.")] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="Only with this name.")] = None,
    on: Annotated[str | None, typer.Option(metavar="GROUP", help="Only on this machine group.")] = None,
    sweep: Annotated[str | None, typer.Option(metavar="ID", help="Only of this sweep.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json_: Json = False,
) -> None:
    """List your tasks, newest first."""
    with session.connect() as client:
        asked = client.tasks.list(
            status=status,
            simulator=simulator,
            project=project,
            name=name,
            group=on,
            sweep=sweep,
            limit=None if all_ else limit,
        )
        found = [task.info for task in asked]
    if json_:
        say_json({"tasks": found})
        return
    now = datetime.now(UTC)
    rows = [
        (
            info.id,
            info.status.value,
            f"{info.simulator} {info.version}",
            _took(info, now),
            ago(info.created_at, now),
            info.name or _values(info),
        )
        for info in found
    ]
    say_table(("ID", "STATUS", "SIMULATOR", "TOOK", "CREATED", "NAME"), rows, fixed=(0, 1, 3, 4), right=(3,))
    if not all_ and len(found) == limit:
        say("There may be more: --limit N or --all.")


@commands.command("info")
def show_task(task: TaskArgument, json_: Json = False) -> None:
    """Show all that is known of a task."""
    with session.connect() as client:
        handle = client.tasks.get(task)
        info = handle.info
        place = handle.explain() if info.status.value == "queued" and not json_ else None
    if json_:
        say_json(info)
        return
    say_pairs(_facts(info) + _place(place))
    if info.attempts:
        typer.echo()
        rows = [
            (
                str(attempt.number),
                attempt.machine,
                attempt.runtime.value if attempt.runtime else "-",
                "-" if attempt.exit_code is None else str(attempt.exit_code),
                "-" if attempt.peak_memory is None else size(attempt.peak_memory),
                "-" if attempt.cpu_seconds is None else duration(attempt.cpu_seconds),
                attempt.reason.code.value if attempt.reason else "",
            )
            for attempt in info.attempts
        ]
        heads = ("ATTEMPT", "MACHINE", "RUNTIME", "EXIT", "MEMORY", "CPU TIME", "REASON")
        say_table(heads, rows, fixed=(0, 2, 3, 4, 5, 6), right=(0, 3, 4, 5))
    for attempt in info.attempts:
        if (staged := attempt.staged) is not None and staged.kept:
            had, came = size(staged.kept), size(staged.fetched)
            typer.echo(f"\nThe machine of attempt {attempt.number} had {had} of its inputs already; {came} came to it.")
        if attempt.resumed_from is not None:
            typer.echo(f"\nAttempt {attempt.number} went on from snapshot {_snapshot(attempt.resumed_from)}.")
        if attempt.snapshot is not None:
            typer.echo(f"\nThe newest snapshot of attempt {attempt.number} is {_snapshot(attempt.snapshot)}.")
        for stream, tail in ("standard output", attempt.stdout_tail), ("standard error", attempt.stderr_tail):
            if tail:
                typer.echo(f"\nThe last of attempt {attempt.number} on {stream}:")
                for line in tail.splitlines():
                    typer.echo(f"  {plain(line)}")


@commands.command("wait")
def wait_for_task(
    task: TaskArgument,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Wait no longer.")] = None,
    download: DownloadTo = None,
    json_: Json = False,
) -> None:
    """Wait until a task has ended; the exit status is 0 only when it succeeded."""
    with session.connect() as client:
        handle = client.tasks.get(task)
        succeeded = watch(handle, quiet=json_, timeout=timeout)
        if download is not None:
            fetch_if_any(handle, download, quiet=json_)
        if json_:
            say_json(handle.info)
    if not succeeded:
        raise typer.Exit(1)


@commands.command("logs")
def print_log(
    task: TaskArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Print standard error instead.")] = False,
    json_: Json = False,
) -> None:
    """Print what a task's commands printed, byte for byte."""
    stream = "stderr" if stderr else "stdout"
    offset = 0
    with session.connect() as client:
        try:
            for chunk in client.tasks.get(task).logs(follow=follow, stream=stream):
                if json_:
                    say_json_line({"stream": stream, "offset": offset, "text": chunk.decode(errors="replace")})
                    offset += len(chunk)
                else:
                    sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
        except KeyboardInterrupt:
            say(f"{task} goes on without you.")
            say_how_back(task)
            raise typer.Exit(INTERRUPTED) from None


@commands.command("files")
def show_files(
    task: TaskArgument,
    path: Annotated[str | None, typer.Argument(metavar="[PATH]", help="Print this file instead.")] = None,
    json_: Json = False,
) -> None:
    """List the files of a task, also while it runs; or print one of them."""
    with session.connect() as client:
        handle = client.tasks.get(task)
        if path is not None:
            for chunk in handle.stream(path):
                sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            return
        found = handle.files()
    if json_:
        say_json({"files": found})
        return
    now = datetime.now(UTC)
    rows = [(size(file.size), ago(_time(file.mtime_ns), now), file.path) for file in found]
    say_table(("SIZE", "CHANGED", "PATH"), rows, fixed=(0, 1, 2), right=(0,))


@commands.command("download")
def download_outputs(
    task: TaskArgument,
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="By default a folder named by the id.")] = None,
    glob: Glob = None,
    json_: Json = False,
) -> None:
    """Fetch the outputs and logs of a task; files that are there already are not fetched again."""
    with session.connect() as client:
        handle = client.tasks.get(task)
        found = fetch(handle, folder or Path(handle.id), glob=glob, quiet=json_)
    if json_:
        say_json(
            {
                "task": task,
                "folder": str(found.folder),
                "files": found.files,
                "bytes": found.bytes,
                "already_there": found.already_there,
                "left_out": found.left_out,
            }
        )


@commands.command("cancel")
def cancel_tasks(
    tasks: Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks' ids.")], json_: Json = False
) -> None:
    """End tasks; what they have made so far is kept."""
    with session.connect() as client:
        found = [client.tasks.get(task) for task in dict.fromkeys(tasks)]
        for handle in found:
            was_over = handle.status.is_end
            info = handle.cancel()
            if not json_:
                end = f"had ended: {info.status.value}" if was_over else "is being ended"
                say(f"{info.id} {'cancelled' if info.status.value == 'cancelled' and not was_over else end}")
    if json_:
        say_json(found[0].info if len(found) == 1 else {"tasks": [handle.info for handle in found]})


@commands.command("remove-outputs")
def remove_outputs(
    tasks: Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks' ids.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Remove the outputs and logs of ended tasks from the storage, for ever; tasks and tables stay."""
    with session.connect() as client:
        found = [client.tasks.get(task) for task in dict.fromkeys(tasks)]
        if not yes:
            sizes = sum(attempt.output_bytes or 0 for handle in found for attempt in handle.info.attempts)
            which = found[0].id if len(found) == 1 else f"{len(found)} tasks"
            confirm(f"Remove the outputs of {which} ({size(sizes)}) for ever?")
        for handle in found:
            handle.remove_outputs()
            if not json_:
                say(f"{handle.id} has no outputs any more")
    if json_:
        say_json(found[0].info if len(found) == 1 else {"tasks": [handle.info for handle in found]})


@commands.command("hold")
def hold_tasks(
    tasks: Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks' ids.")], json_: Json = False
) -> None:
    """Keep tasks from starting until they are released; what runs goes on."""
    _set_held(tasks, held=True, json_=json_)


@commands.command("release")
def release_tasks(
    tasks: Annotated[list[str], typer.Argument(metavar="ID...", help="The tasks' ids.")], json_: Json = False
) -> None:
    """Let held tasks start when their turn comes."""
    _set_held(tasks, held=False, json_=json_)


def _set_held(tasks: list[str], *, held: bool, json_: bool) -> None:
    with session.connect() as client:
        found = [client.tasks.get(task) for task in dict.fromkeys(tasks)]
        for handle in found:
            info = handle.hold() if held else handle.release()
            if not json_:
                end = f"has ended: {info.status.value}" if info.status.is_end else "held" if info.held else "released"
                say(f"{info.id} {end}")
    if json_:
        say_json(found[0].info if len(found) == 1 else {"tasks": [handle.info for handle in found]})


@commands.command("checkpoint")
def checkpoint_task(task: TaskArgument, json_: Json = False) -> None:
    """Keep the restart files of a running task now; a next attempt goes on from them."""
    with session.connect() as client:
        found = client.tasks.get(task).checkpoint()
    if json_:
        say_json(found)
        return
    say(f"Snapshot {found.number} of attempt {found.attempt} has {found.files} files, {size(found.size)}.")


@commands.command("explain")
def explain_task(task: TaskArgument, json_: Json = False) -> None:
    """Say why a task waits, runs or has ended, and what to do next."""
    with session.connect() as client:
        found = client.tasks.get(task).explain()
    if json_:
        say_json(found)
        return
    say_pairs([(found.task, found.status.value)])
    typer.echo(found.summary)
    for detail in found.details:
        typer.echo(f"  - {detail}")
    if found.next:
        typer.echo(f"Next: {found.next}")


def _snapshot(found: Snapshot) -> str:
    told = f"{found.number} of attempt {found.attempt}, {found.files} files, {size(found.size)}"
    return f"{told}, of {moment(found.at)}"


def _took(info: TaskInfo, now: datetime) -> str:
    if info.started_at is None:
        return "-"
    return duration(((info.ended_at or now) - info.started_at).total_seconds())


def _values(info: TaskInfo) -> str:
    return "" if info.case is None else ", ".join(f"{name}={value}" for name, value in info.case.values.items())


def _time(mtime_ns: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=mtime_ns // 1000)


def _status(info: TaskInfo) -> str:
    held = ", held" if info.held and not info.status.is_end else ""
    return info.status.value + (", cancel requested" if info.cancel_requested else "") + held


def _place(place: Explanation | None) -> list[tuple[str, str]]:
    """Return where a queued task stands in the queue, as far as it is known."""
    if place is None or place.position is None:
        return []
    start = [("may start", f"about {moment(place.expected_start)}")] if place.expected_start else []
    return [("in the queue", f"about {place.position} before it" if place.position else "the next one"), *start]


def _limits(limits: Limits) -> str:
    asked = [
        (limits.queue, "in the queue"),
        (limits.staging, "for staging"),
        (limits.run, "to run"),
        (limits.upload, "for the upload"),
        (limits.stall, "without output"),
    ]
    texts = [f"{duration(seconds)} {what}" for seconds, what in asked if seconds is not None]
    return ", ".join(texts) + (", then it ends" if limits.end_stalled else "")


def _checkpoint(checkpoint: Checkpoint) -> str:
    return f"{', '.join(checkpoint.files)} every {duration(checkpoint.every)}"


def _resources(info: TaskInfo) -> str:
    need = info.resources
    parts = [f"{need.cpus:g} cpus, {size(need.memory)} memory"]
    if need.whole_machine:
        # What that machine has is known once there was one.
        parts = ["a whole machine", *(parts if info.attempts else ())]
    if need.machines > 1:
        parts = [f"{need.machines} machines, each with {parts[0]}", *parts[1:]]
    return ", ".join([*parts, f"{size(need.disk)} disk", *([f"{need.gpus} GPUs"] if need.gpus else [])])


def _facts(info: TaskInfo) -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    cost = info.cost_at(now)
    facts = [
        ("id", info.id),
        ("name", info.name or ""),
        ("project", info.project),
        ("simulator", f"{info.simulator} {info.version}" + (f" ({info.runtime.value})" if info.runtime else "")),
        ("status", _status(info)),
        ("reused from", info.reused_from or ""),
        ("reason", f"{info.reason.code.value}: {info.reason.message}" if info.reason else ""),
        ("group", info.group),
        ("resources", _resources(info)),
        ("limits", _limits(info.limits)),
        ("retried on", ", ".join(info.retry.on or ())),
        ("checkpoint", _checkpoint(info.checkpoint) if info.checkpoint else ""),
        ("priority", str(info.priority) if info.priority else ""),
        ("after", ", ".join(f"{one}{'' if one.end == 'success' else ' (any end)'}" for one in info.after)),
        ("if one fails", "hold" if info.if_dependency_fails == "hold" else ""),
        *(("input from", f"{one}: {one.path}" + (f" into {one.into}" if one.into else "")) for one in info.inputs_from),
        ("parameters", ", ".join(f"{name}={value}" for name, value in info.parameters.items())),
        *(("command", " ".join(command.argv)) for command in info.commands),
        ("case", f"{info.case.number} of sweep {info.case.sweep}: {_values(info)}" if info.case else ""),
        ("metadata", ", ".join(f"{name}={value}" for name, value in info.metadata.items())),
        ("created", moment(info.created_at)),
        ("started", moment(info.started_at) if info.started_at else ""),
        ("ended", moment(info.ended_at) if info.ended_at else ""),
        ("took", _took(info, now) if info.started_at else ""),
        ("cost", "" if cost is None else f"{usd(cost)}{'' if info.status.is_end else ' so far'}"),
    ]
    return [(name, value) for name, value in facts if value]
