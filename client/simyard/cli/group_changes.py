"""`simyard groups create|info|resize|end`: machine groups that users make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import session
from simyard.cli.failures import say
from simyard.cli.free import free_of, say_machines
from simyard.cli.options import Json
from simyard.cli.show import confirm, say_json, say_pairs
from simyard.cli.text import count, duration, moment, plain, size
from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.group import LaunchTrouble, MachineGroup

Name = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")]
Count = Annotated[int | None, typer.Option(metavar="N", help="A fixed group: so many machines, always.")]
Least = Annotated[int | None, typer.Option("--min", metavar="N", help="Machines that are kept; by default none.")]
Most = Annotated[int | None, typer.Option("--max", metavar="N", help="An elastic group: at most so many machines.")]
Idle = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Keep an idle machine so long, such as 10m."),
]
Ends = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="End after such a time as 2h, or at 2026-12-24T18:00."),
]


def register(groups: typer.Typer) -> None:
    """Add the commands to `simyard groups`."""
    for name, command in (("create", create), ("info", info), ("resize", resize), ("end", end)):
        groups.command(name)(command)


def create(
    name: Name,
    machine_types: Annotated[
        list[str],
        typer.Option("--type", metavar="T", help="Machine type; given again: taken where the first cannot be had."),
    ],
    count: Count = None,
    least: Least = None,
    most: Most = None,
    spot: Annotated[bool, typer.Option("--spot", help="Cheaper machines that may be taken away.")] = False,
    spot_first: Annotated[
        bool, typer.Option("--spot-then-on-demand", help="Spot while it can be had, else on demand.")
    ] = False,
    on_demand: Annotated[bool, typer.Option("--on-demand", help="Machines that stay; the default.")] = False,
    idle: Idle = None,
    ends: Ends = None,
    disk: Annotated[str | None, typer.Option(metavar="SIZE", help="Each machine's own disk, such as 200GB.")] = None,
    mpi: Annotated[
        bool, typer.Option("--mpi", help="All of its machines come together or not at all: for --machines N.")
    ] = False,
    json_: Json = False,
) -> None:
    """Make a machine group: a fixed one with --count, or one that follows its tasks with --max."""
    if spot + spot_first + on_demand > 1:
        raise InvalidInput("Only one market can be given.", field="--spot", fix="Leave the others out.")
    market = "spot" if spot else "spot-then-on-demand" if spot_first else "on-demand"
    with session.connect() as client:
        made = client.groups.create(
            name,
            machine_types,
            count=count,
            min=least,
            max=most,
            market=market,
            idle=idle,
            ends_at=_moment(ends),
            disk=disk,
            mpi=mpi,
        )
    if json_:
        say_json(made)
        return
    types = " or ".join(made.machine_types)
    say(f"{name} is made: {sizes_of(made)} machines of {types}. Run on it with: simyard run … --on {name}")


def info(name: Name, json_: Json = False) -> None:
    """Show a group: its machines, its tasks, and why machines cannot be started."""
    with session.connect() as client:
        found = client.groups.get(name)
    if json_:
        say_json(found)
        return
    say_pairs(_pairs(found))
    if found.machines:
        typer.echo()
        say_machines(("MACHINE",), [(machine.name, *free_of(machine)) for machine in found.machines])
    for trouble in found.troubles:
        typer.echo()
        typer.echo(plain(trouble_text(trouble)))


def resize(
    name: Name,
    count: Count = None,
    least: Least = None,
    most: Most = None,
    idle: Idle = None,
    ends: Ends = None,
    json_: Json = False,
) -> None:
    """Change how many machines a group has, how long idle ones are kept, or when it ends."""
    with session.connect() as client:
        after = client.groups.resize(name, count=count, min=least, max=most, idle=idle, ends_at=_moment(ends))
    if json_:
        say_json(after)
    else:
        say_pairs(_pairs(after))


def end(
    name: Name,
    now: Annotated[bool, typer.Option("--now", help="Cancel what runs; what it has written is kept.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """End a group: no further task starts, what runs goes on to its end, and then the machines go."""
    with session.connect() as client:
        found = client.groups.get(name)
        if now and not yes:
            confirm(
                f"What runs is cancelled, and what it has written is kept: {count(found.running, 'task', 'tasks')}."
                f" What waits stays queued: {count(found.queued, 'task', 'tasks')}. End {name} now?"
            )
        after = client.groups.end(name, now=now)
    if json_:
        say_json(after)
        return
    rest = "being cancelled" if now else "running on to the end"
    tasks, machines = count(after.running, "task", "tasks"), count(len(after.machines), "machine", "machines")
    say(f"{name} is ending: {tasks} {rest}, and {machines} to go then.")
    if after.queued:
        still = count(after.queued, "task", "tasks")
        say(f"Still queued for it: {still}. Cancel them, or make a group of that name again.")


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    from simyard.resources import parse_duration

    try:
        return datetime.now(UTC) + timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fix = "Write a time such as 2h, or a moment such as 2026-12-24T18:00+01:00."
        raise InvalidInput(f"{text!r} is no end.", field="--ends", fix=fix) from None
    # Without a zone it is meant as the clock on the wall has it.
    return found.astimezone()


def _pairs(group: MachineGroup) -> list[tuple[str, str]]:
    pairs = [("group", group.name), ("state", group.state), ("tasks", f"{group.running} run, {group.queued} wait")]
    if group.machine_type is not None:
        wanted = "" if group.wanted is None else f", {group.wanted} wanted"
        pairs += [("machines", f"{len(group.machines)}{wanted}, of {sizes_of(group)}")]
        pairs += [("types", ", ".join(group.machine_types)), ("market", group.market or "")]
    else:
        pairs += [("machines", str(len(group.machines)))]
    if group.offers is not None:
        offer = f"{group.offers.cpus:g} cpus, {size(group.offers.memory)}"
        pairs += [("each offers", offer + (f", {group.offers.gpus} GPUs" if group.offers.gpus else ""))]
    pairs += [] if group.disk is None else [("disk", size(group.disk))]
    pairs += [] if group.idle is None else [("idle", duration(group.idle))]
    pairs += [] if group.ends_at is None else [("ends", moment(group.ends_at))]
    return pairs + ([] if group.user is None else [("made by", group.user)])


def sizes_of(group: MachineGroup) -> str:
    """Return how many machines a group may have: `4`, `0 to 10`, or all or none: `0 or 4`."""
    return f"{group.min}" if group.min == group.max else f"{group.min} {'or' if group.mpi else 'to'} {group.max}"


def trouble_text(trouble: LaunchTrouble) -> str:
    """Return in words why machines cannot be started."""
    times = "once" if trouble.count == 1 else f"{trouble.count} times since {moment(trouble.since)}"
    said = trouble.message.strip().rstrip(".")
    return (
        f"No {trouble.machine_type} {trouble.market} could be started, {times}: {trouble.code}: {said}. "
        f"{trouble.fix} The next try is at {moment(trouble.next_try)}."
    )
