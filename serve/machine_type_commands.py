"""`simyard admin machine-types`: what the cloud sells, asked anew."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cluster import aws_prices
from cluster.machine_types import catalogue_file, find_type, list_types, merged, save
from serve.administration import answer, bar
from simyard.cli.options import Json
from simyard.errors import InvalidInput
from storage.settings import load_settings

commands = typer.Typer(help="Ask the cloud what it sells, and for how much.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    pass


@commands.command("refresh")
def refresh(
    region: Annotated[str, typer.Option("--region", metavar="R", help="A region of AWS.", show_default=False)],
    types: Annotated[list[str] | None, typer.Option("--type", metavar="T", help="Only this; may come again.")] = None,
    json_: Json = False,
) -> None:
    """Ask AWS for facts and prices of the known machine types in a region; running servers take them at once."""
    path = catalogue_file(load_settings().data_dir)
    known = [one for one in list_types(path) if one.provider == aws_prices.PROVIDER]
    names = [one.name for one in known]
    if types:
        names = [find_type(name, known, field="--type").name for name in types]
    with bar("asking AWS", shown=not json_) as step:
        found = aws_prices.refresh(region, names, datetime.now(UTC).date(), step)
    if not found:
        raise InvalidInput(f"{region} has none of these types.", field="--region", fix="Take another region.")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(merged([*list_types(path), *found]), path)
    priced = sum(one.prices[-1].on_demand is not None for one in found)
    document = {"region": region, "types": len(found), "with_price": priced}
    answer(json_, document, f"{len(found)} types of {region}, {priced} with a price.")
