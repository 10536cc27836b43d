"""`simyard sweep`: a template folder, a table of parameters, and a task for each case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simyard.cli import session
from simyard.cli.arguments import parse_pairs, parse_parameters
from simyard.cli.bars import bars
from simyard.cli.chaining import dependencies, taken
from simyard.cli.failures import say
from simyard.cli.grids import parse_grid
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
    Out,
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
from simyard.cli.run import telling_of_interruption
from simyard.cli.show import say_json
from simyard.cli.sweeping import bring, parse_out, say_how_back, watch_sweep


def sweep(
    simulator: Annotated[str, typer.Argument(metavar="SIMULATOR", help="`simyard simulators list` shows them.")],
    template: Annotated[
        Path, typer.Argument(metavar="TEMPLATE_DIR", help="Folder of the input files; those in .jinja are templates.")
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUES", help="Values such as 10,15,20 or 0:10:2 (to 10 by 2); all combinations."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file with a row for each case.")
    ] = None,
    version: Version = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", metavar="NAME=VALUE", help="A parameter of the simulator; {{ name }} takes the case's."
        ),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option("--command", "-c", metavar="COMMAND", help="Run this instead; {{ name }} takes the case's value."),
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
    name: Annotated[str | None, typer.Option(metavar="N", help="A name for the sweep.")] = None,
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
        bool, typer.Option("--reuse", help="Take the results of earlier tasks that did exactly the same.")
    ] = False,
    after: After = None,
    after_any: AfterAny = None,
    input_from: InputsFrom = None,
    if_dependency_fails: IfDependencyFails = "end",
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key gives the same sweep again.")
    ] = None,
    wait: Wait = False,
    download: DownloadTo = None,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Send a template folder once and run a simulator for each case; prints the sweep's id."""
    from simyard.task import LOCAL_GROUP

    tables = parse_out(out or ())
    points = parse_grid(grid or ())
    with session.connect() as client:
        info = client.simulators.get(simulator)
        parameters = parse_parameters(parameter or (), info, templates=True)
        metadata = parse_pairs(meta or (), "metadata", "--meta")
        with telling_of_interruption(), bars(quiet=json_) as progress:
            found = client.sweep(
                simulator,
                template,
                grid=points,
                table=table,
                name=name,
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
                project=project,
                metadata=metadata,
                priority=priority,
                retries=retries,
                retry=retry_of(retry_on, retry_memory),
                checkpoint=checkpoint_of(checkpoint, checkpoint_every, resume),
                after=dependencies(after or (), after_any or ()),
                inputs=taken(input_from or ()),
                if_dependency_fails=if_dependency_fails,
                reuse=reuse,
                idempotency_key=idempotency_key,
                progress=progress,
                group=on or LOCAL_GROUP,
            )
        if not json_:
            typer.echo(found.id)
        waits = wait or download is not None or bool(tables)
        if not waits and not json_:
            say(f"{found.id} has {found.info.cases} tasks.")
            say_how_back(found.id)
        succeeded = not waits or watch_sweep(found, quiet=json_)
        bring(found, download, tables, quiet=json_)
        if json_:
            say_json(found.info)
    if not succeeded:
        raise typer.Exit(1)
