"""`simyard sweep`: a template folder, a table of parameters, and a task for each case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simyard.cli import session
from simyard.cli.arguments import parse_pairs, parse_parameters
from simyard.cli.bars import bars
from simyard.cli.failures import say
from simyard.cli.grids import parse_grid
from simyard.cli.options import DownloadTo, Json, Out
from simyard.cli.run import telling_of_interruption
from simyard.cli.show import say_json
from simyard.cli.sweeping import bring, parse_out, say_how_back, watch_sweep

_SIZE = "such as 2GiB"


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
    version: Annotated[str | None, typer.Option(metavar="V", help="Version; by default the newest.")] = None,
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
    cpus: Annotated[float | None, typer.Option(metavar="N", help="Cores of each task; by default 1.")] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", help="GPUs; by default none.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help=f"Memory, {_SIZE}.")] = None,
    disk: Annotated[str | None, typer.Option(metavar="SIZE", help=f"Room for files, {_SIZE}.")] = None,
    on: Annotated[str | None, typer.Option(metavar="GROUP", help="Machine group to run on.")] = None,
    runtime: Annotated[str | None, typer.Option(metavar="R", help="native, podman or docker.")] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time for the commands, such as 2h or 90s.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="A name for the sweep.")] = None,
    project: Annotated[str, typer.Option(metavar="P", help="Project that the tasks belong to.")] = "default",
    meta: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A word of your own about each task.")
    ] = None,
    priority: Annotated[int, typer.Option(metavar="N", help="-100 to 100; higher ones run first.")] = 0,
    retries: Annotated[int, typer.Option(metavar="N", help="How often to try a task again when it fails.")] = 0,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Take the results of earlier tasks that did exactly the same.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key gives the same sweep again.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all tasks have ended.")] = False,
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
                runtime=runtime,
                time_limit=time_limit,
                project=project,
                metadata=metadata,
                priority=priority,
                retries=retries,
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
