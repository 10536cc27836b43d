"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simyard.cli.text import plain

_SIZE = "such as 2GiB"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
TaskArgument = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]


def check_folder(folder: Path | None) -> Path | None:
    """Refuse a folder for outputs before anything is waited for, where something else has its name."""
    if folder is not None and (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise typer.BadParameter(f"{plain(str(folder))} is not a folder.")
    return folder


Glob = Annotated[
    str | None, typer.Option(metavar="GLOB", help="Only files that match: * stays in one folder, ** crosses them.")
]
DownloadTo = Annotated[
    Path | None,
    typer.Option(
        "--download", metavar="DIR", callback=check_folder, help="Wait, then fetch the outputs into this folder."
    ),
]
Out = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TABLE=FILE", help="Wait, then write this table of all cases: .parquet, .csv or .json; may come again."
    ),
]

Version = Annotated[str | None, typer.Option(metavar="V", help="Version; by default the newest.")]
Cpus = Annotated[float | None, typer.Option(metavar="N", help="Cores; by default 1.")]
Gpus = Annotated[int | None, typer.Option(metavar="N", help="GPUs; by default none.")]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help=f"Memory, {_SIZE}.")]
Disk = Annotated[str | None, typer.Option(metavar="SIZE", help=f"Room for files, {_SIZE}, kept for it on the machine.")]
WholeMachine = Annotated[
    bool, typer.Option("--whole-machine", help="Alone on a machine, with all of its cores, memory and GPUs.")
]
Machines = Annotated[int | None, typer.Option(metavar="N", help="Machines to run on at once; by default 1.")]
On = Annotated[str | None, typer.Option(metavar="GROUP", help="Machine group to run on.")]
Runtime = Annotated[str | None, typer.Option(metavar="R", help="native, podman or docker.")]
TimeLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest time for the commands, such as 2h or 90s.")
]
QueueLimit = Annotated[str | None, typer.Option(metavar="TIME", help="Longest wait for a place on a machine.")]
StagingLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest time to bring inputs and environment to the machine.")
]
UploadLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest time to store the outputs; then they are given up.")
]
StallLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Time without output after which an event says so.")
]
EndStalled = Annotated[bool, typer.Option("--end-stalled", help="End the task then; needs --stall-limit.")]
Project = Annotated[str, typer.Option(metavar="P", help="Project to which it belongs.")]
Meta = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A word of your own about it.")]
Priority = Annotated[int, typer.Option(metavar="N", help="-100 to 100; higher ones run first.")]
Retries = Annotated[int, typer.Option(metavar="N", help="How often to try again when a task fails.")]
RetryOn = Annotated[
    list[str] | None,
    typer.Option(metavar="REASON", help="Try again only after this, such as signal or exit-code:75; may come again."),
]
RetryMemory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Each time it is out of memory, ask for twice as much, up to this.")
]
CheckpointFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint", metavar="GLOB", help="Restart files, such as 'restart/**', kept meanwhile; may come again."
    ),
]
CheckpointEvery = Annotated[
    str | None, typer.Option(metavar="TIME", help="Time between two snapshots of them; by default 10m.")
]
Resume = Annotated[
    list[str] | None,
    typer.Option(metavar="COMMAND", help="Go on from a snapshot by this; by default the task's own commands."),
]
After = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="Start once this task has succeeded; may come again.")
]
AfterAny = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="Start once this task has ended, in whatever way.")
]
InputsFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--input-from",
        metavar="ID:GLOB",
        help="Bring these outputs of that task, once it has succeeded; may come again.",
    ),
]
IfDependencyFails = Annotated[
    str, typer.Option(metavar="end|hold", help="What becomes of it where a task before it has failed.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all of it has ended.")]


def limits_of(**asked: str | bool | None) -> dict[str, str | bool]:
    """Return the limits that were asked for, by their names."""
    return {name: value for name, value in asked.items() if value is not None and value is not False}


def retry_of(on: list[str] | None, memory: str | None) -> dict[str, object] | None:
    """Return which failures are tried again, where that was asked for."""
    return {"on": on or None, "memory": memory} if on or memory else None


def checkpoint_of(files: list[str] | None, every: str | None, resume: list[str] | None) -> dict[str, object] | None:
    """Return which files are kept for a next attempt, where that was asked for."""
    asked = {"files": files or None, "every": every, "resume": resume or None}
    return {name: value for name, value in asked.items() if value is not None} or None
