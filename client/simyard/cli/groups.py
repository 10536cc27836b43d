"""`simyard groups`: the machines that tasks run on."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import group_changes, session
from simyard.cli.failures import say
from simyard.cli.free import FREE, free_of, say_machines
from simyard.cli.machines import NO_PRICES
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_pairs
from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.group import Machine, MachineGroup

commands = typer.Typer(
    help="See the machine groups, make and end them; pause and resume them for your tasks.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("list")
def list_groups(json_: Json = False) -> None:
    """List the machine groups, their machines and what is free on them."""
    with session.connect() as client:
        found = client.groups.list()
    if json_:
        say_json({"groups": found})
        return
    rows: list[tuple[str, ...]] = []
    nothing = ("",) * len(FREE)
    for group in found:
        for machine in group.machines:
            rows.append((group.name, machine.name, *free_of(machine)))
            # Below its name, which may take all the room that there is.
            rows += [(group.name, trouble, *nothing) for trouble in _troubles(machine)]
    rows += [(group.name, _standing(group), *nothing) for group in found if not group.machines or group.machine_type]
    for group in found:
        for trouble in group.troubles:
            rows.append((group.name, f"({trouble.code}: see groups info)", *nothing))
    say_machines(("GROUP", "MACHINE"), sorted(rows, key=lambda row: row[0]))


def _troubles(machine: Machine) -> list[str]:
    """Return why a machine gets no tasks now; nothing where it does."""
    if machine.is_leaving:
        return ["(being taken away)"]
    if machine.set_aside_until is None:
        return []
    return [f"(set aside until {machine.set_aside_until.astimezone():%H:%M:%S})"]


def _standing(group: MachineGroup) -> str:
    """Return what a group has and may have."""
    if group.machine_type is None:
        return "(no machines)"
    ending = ", ending" if group.state == "ending" else ""
    return f"({len(group.machines)} {group.machine_type}, {group_changes.sizes_of(group)}{ending})"


@commands.command("cost")
def group_cost(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only the last so long, such as 30d or 12h.")
    ] = None,
    json_: Json = False,
) -> None:
    """Sum up what a group's machines have cost, in US dollars: an estimate from hours and known prices."""
    with session.connect() as client:
        found = client.groups.cost(name, since=None if since is None else _time(since))
    if json_:
        say_json(found)
        return
    if not found.has_cloud:
        say(NO_PRICES)
        return
    told = [("group", found.group), ("machines", str(found.machines)), ("hours", f"{found.hours:.2f}")]
    told.append(("cost", "no price is known" if found.cost is None else f"{found.cost:.2f} USD"))
    if found.unpriced:
        of = "this price" if found.unpriced == 1 else "these prices"
        told.append(("without", f"{found.unpriced} of the machines: ask for {of} with simyard admin machine-types"))
    say_pairs(told)


def _time(text: str) -> timedelta:
    from simyard.resources import parse_duration

    try:
        return timedelta(seconds=float(parse_duration(text)))
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{error}.", field="--since") from None


GroupArgument = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")]


@commands.command("pause")
def pause_group(name: GroupArgument, json_: Json = False) -> None:
    """Let none of your tasks start in a group until it is resumed; what runs goes on."""
    with session.connect() as client:
        client.groups.pause(name)
    if json_:
        say_json({"group": name, "paused": True})
    else:
        say(f"{name} is paused for you. It goes on with: simyard groups resume {name}")


@commands.command("resume")
def resume_group(name: GroupArgument, json_: Json = False) -> None:
    """Let your tasks start in a group again."""
    with session.connect() as client:
        client.groups.resume(name)
    if json_:
        say_json({"group": name, "paused": False})
    else:
        say(f"{name} goes on for you.")


group_changes.register(commands)
