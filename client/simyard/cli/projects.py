"""`simyard projects`: whether the tasks of a project may start, and what it uses."""

from __future__ import annotations

from typing import Annotated

import typer

from simyard.cli import session
from simyard.cli.failures import say
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_table
from simyard.cli.text import cents, size, used_of

commands = typer.Typer(
    help="See what projects use; pause and resume them.", no_args_is_help=True, rich_markup_mode=None
)
ProjectArgument = Annotated[str, typer.Argument(metavar="NAME", help="The project's name.")]


@commands.command("list")
def list_projects(json_: Json = False) -> None:
    """List your projects of which tasks are queued or run, outputs are stored, that cost this month, or are paused."""
    with session.connect() as client:
        found = client.projects.list()
    if json_:
        say_json({"projects": found})
        return
    rows = [
        (
            project.name,
            "paused" if project.paused else "queued" if project.queued else "",
            used_of(project.running, project.running_quota),
            used_of(project.cpus, project.cpus_quota),
            used_of(project.stored, project.storage_quota, size),
            used_of(project.usd_this_month, project.usd_per_month_quota, cents),
        )
        for project in found
    ]
    heads = ("PROJECT", "STATE", "RUNNING", "CPUS", "STORAGE", "USD/MONTH")
    say_table(heads, rows, fixed=(1, 2, 3, 4, 5), right=(2, 3, 4, 5))


@commands.command("pause")
def pause_project(name: ProjectArgument, json_: Json = False) -> None:
    """Let none of your tasks of a project start until it is resumed; what runs goes on."""
    with session.connect() as client:
        client.projects.pause(name)
    if json_:
        say_json({"project": name, "paused": True})
    else:
        say(f"{name} is paused. It goes on with: simyard projects resume {name}")


@commands.command("resume")
def resume_project(name: ProjectArgument, json_: Json = False) -> None:
    """Let your tasks of a project start again."""
    with session.connect() as client:
        client.projects.resume(name)
    if json_:
        say_json({"project": name, "paused": False})
    else:
        say(f"{name} goes on.")
