"""`simyard simulators`: the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import session
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_pairs, say_table

if TYPE_CHECKING:
    from simyard.simulator import Parameter

commands = typer.Typer(help="See which simulators there are.", no_args_is_help=True, rich_markup_mode=None)


@commands.command("list")
def list_simulators(json_: Json = False) -> None:
    """List the simulators of the catalogue."""
    with session.connect() as client:
        found = client.simulators.list()
    if json_:
        say_json({"simulators": found})
        return
    rows = [(info.name, info.versions[0].version if info.versions else "-", info.title) for info in found]
    say_table(("NAME", "VERSION", "TITLE"), rows, fixed=(0, 1))


@commands.command("info")
def show_simulator(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The simulator's name.")], json_: Json = False
) -> None:
    """Show a simulator's versions, parameters and tables."""
    with session.connect() as client:
        info = client.simulators.get(name)
    if json_:
        say_json(info)
        return
    say_pairs([("name", info.name), ("title", info.title), ("homepage", info.homepage)])
    typer.echo(f"\n{info.description}\n")
    rows = [(known.version, ", ".join(runtime.value for runtime in known.runtimes)) for known in info.versions]
    say_table(("VERSION", "RUNTIMES"), rows, fixed=(0,))
    if info.parameters:
        typer.echo()
        parameters = [(one.name, one.type.value, _default(one), one.description) for one in info.parameters]
        say_table(("PARAMETER", "TYPE", "DEFAULT", "WHAT IT IS"), parameters, fixed=(0, 1, 2), prose=(3,))
    if info.tables:
        typer.echo()
        say_table(("TABLE", "WHAT IT HOLDS"), list(info.tables.items()), fixed=(0,), prose=(1,))


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "(required)"
    return "" if parameter.default is None else str(parameter.default)
