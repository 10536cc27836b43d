"""`simyard admin machine-types`: what the cloud sells, asked anew."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.machine_types import catalogue_file, find_type, list_types
from cluster.quotes import ask, seller_of
from serve.administration import answer, bar
from simyard.cli.options import Json
from storage.settings import load_settings

commands = typer.Typer(help="Ask the cloud what it sells, and for how much.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    pass


@commands.command("refresh")
def refresh(
    region: Annotated[
        str, typer.Option("--region", metavar="R", help="Of AWS, Azure or Google Cloud.", show_default=False)
    ],
    types: Annotated[list[str] | None, typer.Option("--type", metavar="T", help="Only this; may come again.")] = None,
    json_: Json = False,
) -> None:
    """Ask a cloud what the known machine types cost in a region; running servers take it at once."""
    path = catalogue_file(load_settings().data_dir)
    known = [one for one in list_types(path) if one.provider == seller_of(region)]
    wanted = [find_type(name, known, field="--type") for name in types] if types else known
    with bar("asking for prices", shown=not json_) as step:
        found = ask(region, wanted, path, step)
    priced = sum(one.prices[-1].on_demand is not None for one in found)
    document = {"region": region, "types": len(found), "with_price": priced}
    answer(json_, document, f"{len(found)} types of {region}, {priced} with a price.")
