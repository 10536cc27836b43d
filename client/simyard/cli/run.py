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
from simyard.cli.options import (
    After,
    AfterAny,
    CheckpointEvery,
    CheckpointFiles,
    Cpus,
    Disk,
    DownloadTo,
    EndStalled,
    Gpus,
    IfDependencyFails,
    InputsFrom,
    Json,
    Machines,
    Memory,
    Meta,
    On,
    Priority,
    Project,
    QueueLimit,
    Resume,
    Retries,
    RetryMemory,
    RetryOn,
    Runtime,
    StagingLimit,
    StallLimit,
    TimeLimit,
    UploadLimit,
    Version,
    Wait,
    WholeMachine,
    checkpoint_of,
    limits_of,
    retry_of,
)
from simyard.cli.show import say_json
from simyard.cli.watching import say_how_back, watch


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
    version: Version = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter of the simulator.")
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option("--command", "-c", metavar="COMMAND", help="Run this instead; several run one after the other."),
    ] = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    memory: Memory = None,
    disk: Disk = None,
    whole_machine: WholeMachine = False,
    machines: Machines = None,
    on: On = None,
    runtime: Runtime = None,
    time_limit: TimeLimit = None,
    queue_limit: QueueLimit = None,
    staging_limit: StagingLimit = None,
    upload_limit: UploadLimit = None,
    stall_limit: StallLimit = None,
    end_stalled: EndStalled = False,
    name: Annotated[str | None, typer.Option(metavar="N", help="A name for the task.")] = None,
    project: Project = "default",
    meta: Meta = None,
    priority: Priority = 0,
    retries: Retries = 0,
    retry_on: RetryOn = None,
    retry_memory: RetryMemory = None,
    checkpoint: CheckpointFiles = None,
    checkpoint_every: CheckpointEvery = None,
    resume: Resume = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Take the result of an earlier task that did exactly the same, if any.")
    ] = False,
    after: After = None,
    after_any: AfterAny = None,
    input_from: InputsFrom = None,
    if_dependency_fails: IfDependencyFails = "end",
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key gives the same task again.")
    ] = None,
    wait: Wait = False,
    download: DownloadTo = None,
    json_: Json = False,
) -> None:
    """Send a folder and run a simulator over it; prints the task's id."""
    from simyard.task import LOCAL_GROUP

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
                whole_machine=whole_machine or None,
                machines=machines,
                runtime=runtime,
                limits=limits_of(
                    queue=queue_limit,
                    staging=staging_limit,
                    run=time_limit,
                    upload=upload_limit,
                    stall=stall_limit,
                    end_stalled=end_stalled,
                ),
                name=name,
                project=project,
                metadata=metadata,
                priority=priority,
                retries=retries,
                after=dependencies(after or (), after_any or ()),
                inputs=taken(input_from or ()),
                if_dependency_fails=if_dependency_fails,
                retry=retry_of(retry_on, retry_memory),
                checkpoint=checkpoint_of(checkpoint, checkpoint_every, resume),
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
