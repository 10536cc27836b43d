"""`simyard machines`: what clouds sell, and for how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import session
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_table
from simyard.cli.text import size
from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.machine_type import MachineType, Price

commands = typer.Typer(help="See the machine types.", no_args_is_help=True, rich_markup_mode=None)


@commands.command("types")
def list_types(
    cpus: Annotated[float, typer.Option(metavar="N", help="At least so many cores.")] = 0,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="At least so much memory, such as 64GiB.")] = "0",
    gpus: Annotated[int, typer.Option(metavar="N", help="At least so many GPUs.")] = 0,
    region: Annotated[str | None, typer.Option(metavar="R", help="Only what has a price there.")] = None,
    json_: Json = False,
) -> None:
    """List the machine types with their prices an hour, the cheapest first."""
    from simyard.resources import parse_size

    try:
        least = int(parse_size(memory))
    except ValueError as error:
        raise InvalidInput(f"{error}.", field="--memory") from None
    with session.connect() as client:
        known = client.machine_types()
    large = [one for one in known if one.cpus >= cpus and one.memory >= least and one.gpus >= gpus]
    found = [(one, price) for one in large for price in one.prices if region is None or price.region == region]
    found.sort(key=lambda pair: (pair[1].on_demand is None, pair[1].on_demand or 0.0))
    if json_:
        say_json({"machine_types": [one.model_copy(update={"prices": (price,)}) for one, price in found]})
        return
    say_table(
        ("TYPE", "CPUS", "MEMORY", "GPUS", "DISK", "USD/H", "SPOT", "REGION", "OF"),
        [_row(one, price) for one, price in found],
        fixed=(0, 1, 2, 3, 4, 5, 6, 7, 8),
        right=(1, 2, 4, 5, 6),
    )


def _row(one: MachineType, price: Price) -> tuple[str, ...]:
    return (
        one.name,
        str(one.cpus),
        size(one.memory),
        f"{one.gpus} {one.gpu}" if one.gpus else "",
        size(one.local_disk) if one.local_disk else "",
        _usd(price.on_demand),
        _usd(price.spot) if one.has_spot else "none",
        price.region,
        f"{price.date:%Y-%m}",
    )


def _usd(price: float | None) -> str:
    return "?" if price is None else f"{price:.3f}"
