"""`simyard machines`: what clouds sell and for how much, and what the machines of this server have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import session
from simyard.cli.failures import say
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_table
from simyard.cli.text import ago, size
from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.machine_type import MachineType, Price
    from simyard.rental import RentedMachine

_GROUP = 10
"""Characters of a group's name in a row."""

commands = typer.Typer(
    help="See the machine types, and the cloud's machines with what they cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("types")
def list_types(
    cpus: Annotated[float, typer.Option(metavar="N", help="At least so many cores.")] = 0,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="At least so much memory, such as 64GiB.")] = "0",
    gpus: Annotated[int, typer.Option(metavar="N", help="At least so many GPUs.")] = 0,
    region: Annotated[
        str | None, typer.Option(metavar="R", help="Only what has a price there; else this cluster's.")
    ] = None,
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
    found: list[tuple[MachineType, Price | None]] = []
    for one in large:
        if region is None:
            found.append((one, one.prices[0] if one.prices else None))
        elif (price := one.price(region)) is not None:
            found.append((one, price))
    found.sort(key=lambda pair: _cost_of(pair[1]))
    if json_:
        told = [one.model_copy(update={"prices": () if price is None else (price,)}) for one, price in found]
        say_json({"machine_types": told})
        return
    say_table(
        ("TYPE", "CPUS", "MEMORY", "GPUS", "DISK", "USD/H", "SPOT", "REGION", "OF"),
        [_row(one, price) for one, price in found],
        fixed=(0, 1, 2, 3, 4, 5, 6, 7, 8),
        right=(1, 2, 4, 5, 6),
    )


@commands.command("list")
def list_machines(
    ended: Annotated[bool, typer.Option("--ended", help="Those that have ended, and why.")] = False,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this machine group.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="At most so many.")] = 200,
    json_: Json = False,
) -> None:
    """List the cloud's machines with uptime, price an hour and cost so far, in US dollars; the newest first."""
    with session.connect() as client:
        found = client.machines.page(ended=ended, group=group, limit=limit)
    if json_:
        say_json(found)
        return
    if not found.has_cloud:
        say(NO_PRICES)
        return
    if ended:
        _say_ended(found.machines)
    else:
        _say_there(found.machines)
    if found.more:
        say(f"These are the {limit} that were launched last; --limit shows more.")


NO_PRICES = "No prices are known: this server's machines are no cloud's. `simyard groups list` shows them."


def _say_there(machines: Sequence[RentedMachine]) -> None:
    say_table(
        ("MACHINE", "GROUP", "TYPE", "SPOT", "HOURS", "USD/H", "USD"),
        [
            (
                one.id,
                _short(one.group),
                one.machine_type,
                "yes" if one.market == "spot" else "no",
                f"{one.hours:.1f}",
                _usd(one.price_per_hour),
                _cost(one),
            )
            for one in machines
        ],
        fixed=(0, 1, 2, 3, 4, 5, 6),
        right=(4, 5, 6),
    )


def _say_ended(machines: Sequence[RentedMachine]) -> None:
    say_table(
        ("MACHINE", "GROUP", "HOURS", "USD", "ENDED"),
        [(one.id, _short(one.group), f"{one.hours:.1f}", _cost(one), _end(one)) for one in machines],
        fixed=(0, 1, 2, 3),
        right=(2, 3),
        prose=(4,),
    )


def _cost(one: RentedMachine) -> str:
    return "?" if one.cost is None else f"{one.cost:.2f}"


def _end(one: RentedMachine) -> str:
    return f"{ago(one.ended_at or one.last_seen_at, datetime.now(UTC))}: {one.why_ended or 'nobody knows why'}"


def _short(name: str) -> str:
    # A row must fit a terminal, and a name may have 63 characters.
    return name if len(name) <= _GROUP else name[: _GROUP - 1] + "…"


def _cost_of(price: Price | None) -> float:
    return math.inf if price is None or price.on_demand is None else price.on_demand


def _row(one: MachineType, price: Price | None) -> tuple[str, ...]:
    return (
        one.name,
        str(one.cpus),
        size(one.memory),
        f"{one.gpus} {one.gpu}" if one.gpus else "",
        size(one.local_disk) if one.local_disk else "",
        _usd(price.on_demand if price else None),
        _usd(price.spot if price else None) if one.has_spot else "none",
        price.region if price else "",
        f"{price.date:%Y-%m}" if price else "",
    )


def _usd(price: float | None) -> str:
    return "?" if price is None else f"{price:.3f}"
