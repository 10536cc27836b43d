"""`simyard run`: a folder, a simulator, and a task that comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from simyard.cli import session
from simyard.cli.arguments import parse_pairs, parse_parameters
from simyard.cli.bars import bars
from simyard.cli.chaining import dependencies, taken
from simyard.cli.failures import INTERRUPTED, say
from simyard.cli.fetching import fetch_if_any
from simyard.cli.options import DownloadTo, Json
from simyard.cli.show import say_json
from simyard.cli.watching import say_how_back, watch

_SIZE = "such as 2GiB"


@contextmanager
def telling_of_interruption() -> Iterator[None]:
    """Say on Ctrl-C, while files are sent, that nothing of them is lost."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the files that were sent are kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None


def run(
    simulator: Annotated[str, typer.Argument(metavar="SIMULATOR", help="`simyard simulators list` shows them.")],
    folder: Annotated[Path, typer.Argument(metavar="INPUT_DIR", help="Folder of the input files.")],
    version: Annotated[str | None, typer.Option(metavar="V", help="Version; by default the newest.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter of the simulator.")
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option("--command", "-c", metavar="COMMAND", help="Run this instead; several run one after the other."),
    ] = None,
    cpus: Annotated[float | None, typer.Option(metavar="N", help="Cores; by default 1.")] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", help="GPUs; by default none.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help=f"Memory, {_SIZE}.")] = None,
    disk: Annotated[str | None, typer.Option(metavar="SIZE", help=f"Room for files, {_SIZE}.")] = None,
    on: Annotated[str | None, typer.Option(metavar="GROUP", help="Machine group to run on.")] = None,
    runtime: Annotated[str | None, typer.Option(metavar="R", help="native, podman or docker.")] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time for the commands, such as 2h or 90s.")
    ] = None,
    queue_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest wait for a place on a machine.")
    ] = None,
    staging_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time to bring inputs and environment to the machine.")
    ] = None,
    upload_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time to store the outputs; then they are given up.")
    ] = None,
    stall_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time without output after which an event says so.")
    ] = None,
    end_stalled: Annotated[bool, typer.Option("--end-stalled", help="End the task then; needs --stall-limit.")] = False,
    name: Annotated[str | None, typer.Option(metavar="N", help="A name for the task.")] = None,
    project: Annotated[str, typer.Option(metavar="P", help="Project that the task belongs to.")] = "default",
    meta: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A word of your own about the task.")
    ] = None,
    priority: Annotated[int, typer.Option(metavar="N", help="-100 to 100; higher ones run first.")] = 0,
    retries: Annotated[int, typer.Option(metavar="N", help="How often to try again when it fails.")] = 0,
    retry_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON", help="Try again only after this, such as signal or exit-code:75; may come again."
        ),
    ] = None,
    retry_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Each time it is out of memory, ask for twice as much, up to this."),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Restart files, such as 'restart/**', kept meanwhile; may come again."),
    ] = None,
    checkpoint_every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time between two snapshots of them; by default 10m.")
    ] = None,
    resume: Annotated[
        list[str] | None,
        typer.Option(metavar="COMMAND", help="Go on from a snapshot by this; by default the task's own commands."),
    ] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Take the result of an earlier task that did exactly the same, if any.")
    ] = False,
    after: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Start once this task has succeeded; may come again.")
    ] = None,
    after_any: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Start once this task has ended, in whatever way.")
    ] = None,
    input_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID:GLOB", help="Bring these outputs of that task, once it has succeeded; may come again."
        ),
    ] = None,
    if_dependency_fails: Annotated[
        str, typer.Option(metavar="end|hold", help="What becomes of the task where one before it has failed.")
    ] = "end",
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key gives the same task again.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the task has ended.")] = False,
    download: DownloadTo = None,
    json_: Json = False,
) -> None:
    """Send a folder and run a simulator over it; prints the task's id."""
    from simyard.task import LOCAL_GROUP

    asked = {
        "queue": queue_limit,
        "staging": staging_limit,
        "run": time_limit,
        "upload": upload_limit,
        "stall": stall_limit,
        "end_stalled": end_stalled or None,
    }
    kept = {"files": checkpoint or None, "every": checkpoint_every, "resume": resume or None}
    with session.connect() as client:
        info = client.simulators.get(simulator)
        parameters = parse_parameters(parameter or (), info)
        metadata = parse_pairs(meta or (), "metadata", "--meta")
        with telling_of_interruption(), bars(quiet=json_) as progress:
            task = client.run(
                simulator,
                folder,
                version=version,
                parameters=parameters,
                commands=command or (),
                cpus=cpus,
                gpus=gpus,
                memory=memory,
                disk=disk,
                runtime=runtime,
                limits={name: value for name, value in asked.items() if value is not None},
                name=name,
                project=project,
                metadata=metadata,
                priority=priority,
                retries=retries,
                after=dependencies(after or (), after_any or ()),
                inputs=taken(input_from or ()),
                if_dependency_fails=if_dependency_fails,
                retry={"on": retry_on or None, "memory": retry_memory} if retry_on or retry_memory else None,
                checkpoint={name: value for name, value in kept.items() if value is not None} or None,
                reuse=reuse,
                idempotency_key=idempotency_key,
                progress=progress,
                group=on or LOCAL_GROUP,
            )
        if not json_:
            typer.echo(task.id)
        waits = wait or download is not None
        if not waits and not json_:
            say(f"{task.id} is {task.status.value}.")
            say_how_back(task.id)
        succeeded = not waits or watch(task, quiet=json_)
        if download is not None:
            fetch_if_any(task, download, quiet=json_)
        if json_:
            say_json(task.info)
    if not succeeded:
        raise typer.Exit(1)
