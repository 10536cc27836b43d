"""All commands in one program: the client's own, and those of the server where it is installed beside it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Annotated

import typer

from simyard.cli import cluster, groups, login, machines, projects, run, simulators, sweep, sweeps, tasks
from simyard.cli.failures import FailureAwareGroup
from simyard.cli.version import say_version

PLUGINS = "simyard.commands"
"""Entry points of this group are functions that take the program and add commands to it."""

_HELP = """Run simulators on a Simyard server.

Exit status: 0 done, and a task that was waited for succeeded; 1 it ended otherwise; 2 refused, bad input or usage;
3 the server cannot be reached or failed; 130 Ctrl-C.
"""


def build(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the program that understands these arguments.

    Commands of other distributions are loaded only when one of them may be meant: they can be slow to import.
    """
    app = typer.Typer(
        name="simyard",
        cls=FailureAwareGroup,
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command("login")(login.login)
    app.command("run")(run.run)
    app.command("sweep")(sweep.sweep)
    app.add_typer(tasks.commands, name="tasks")
    app.add_typer(sweeps.commands, name="sweeps")
    app.add_typer(simulators.commands, name="simulators")
    app.add_typer(groups.commands, name="groups")
    app.add_typer(cluster.commands, name="cluster")
    app.add_typer(machines.commands, name="machines")
    app.add_typer(projects.commands, name="projects")
    own = {"login", "run", "sweep", "tasks", "sweeps", "simulators", "groups", "cluster", "machines", "projects"}
    if next((word for word in arguments if not word.startswith("-")), None) not in own:
        _add_plugins(app)
    return app


def _add_plugins(app: typer.Typer) -> None:
    for found in sorted(entry_points(group=PLUGINS), key=lambda found: found.name):
        try:
            found.load()(app)
        except Exception as error:  # noqa: BLE001 - a broken plug-in must not take the other commands with it
            typer.echo(f"warning: the commands of {found.value} cannot be loaded: {error}", err=True)


def _version(wanted: bool) -> None:
    if wanted:
        say_version()
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
