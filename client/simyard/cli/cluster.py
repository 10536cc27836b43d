"""`simyard cluster`: what the server's tasks run on, and why each machine is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer

from simyard.cli import session
from simyard.cli.failures import say
from simyard.cli.group_changes import trouble_text
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_pairs, say_table
from simyard.cli.text import ago, duration, plain

if TYPE_CHECKING:
    from simyard.cluster import CloudState
    from simyard.group import Machine, MachineGroup

commands = typer.Typer(
    help="See the cluster: cloud, groups, machines and what they cost.", no_args_is_help=True, rich_markup_mode=None
)


@commands.command("status")
def show_status(json_: Json = False) -> None:
    """Show the cloud and whether it answers, and each group with its machines, tasks and cost of the last 30 days."""
    with session.connect() as client:
        found = client.cluster()
        url = client.url
    if json_:
        say_json(found)
        return
    pairs = [("server", f"{url}, Simyard {found.version}"), ("cloud", _cloud(found.cloud, found.max_machines))]
    if found.max_machines is not None:
        there = sum(len(group.machines) for group in found.groups)
        pairs.append(("machines", f"{there} of at most {found.max_machines}"))
    pairs.append(("Ray's own view", "simyard admin ray-dashboard, where the server runs"))
    say_pairs(pairs)
    typer.echo()
    rows = [
        (
            group.name,
            f"{len(group.machines)}" + ("" if group.wanted is None else f"/{group.wanted}"),
            _share(group),
            str(group.running),
            str(group.queued),
            "" if (usd := found.costs.get(group.name)) is None else f"{usd:.2f}",
            _state(group),
        )
        for group in found.groups
    ]
    heads = ("GROUP", "MACHINES", "CPUS USED", "RUN", "WAIT", "USD 30 D", "STATE")
    say_table(heads, rows, fixed=(1, 2, 3, 4, 5), right=(1, 2, 3, 4, 5))
    if found.cloud is not None and found.cloud.error is not None:
        typer.echo()
        typer.echo(plain(f"{found.cloud.error} {found.cloud.fix or ''}".rstrip()))
    for trouble in (trouble for group in found.groups for trouble in group.troubles):
        typer.echo()
        typer.echo(plain(trouble_text(trouble)))


@commands.command("explain")
def explain(json_: Json = False) -> None:
    """Say of each machine why it is there: what it carries, or how long it has been idle and when it goes."""
    with session.connect() as client:
        groups = client.cluster().groups
    now = datetime.now(UTC)
    found = [(group, machine) for group in groups for machine in group.machines]
    told = [{"group": g.name, "machine": m.name, "why": why_kept(g, m, now)} for g, m in found]
    if json_:
        say_json({"machines": told})
    elif told:
        rows = [(one["group"], one["machine"], one["why"]) for one in told]
        say_table(("GROUP", "MACHINE", "WHY IT IS THERE"), rows, fixed=(0, 1), prose=(2,))
    else:
        say("No machine is there. Those of a group start when tasks wait for them: simyard groups list")


def why_kept(group: MachineGroup, machine: Machine, now: datetime) -> str:
    """Return why a machine is there."""
    if machine.is_leaving:
        return "Its cloud is taking it away; it gets no tasks any more."
    if machine.idle_since is None:
        text = f"It carries tasks: {machine.cpus - machine.cpus_free:g} of {machine.cpus:g} cpus are taken."
        return text + (" Its group is ending, and it goes then." if group.state == "ending" else "")
    idle = f"Idle for {duration((now - machine.idle_since) / timedelta(seconds=1))}"
    if group.max is None:
        return f"{idle}. Nobody ends it: it is no machine of a cloud."
    if group.state == "ending":
        return f"{idle}. Its group is ending, and so is it."
    if len(group.machines) <= (group.min or 0):
        return f"{idle}. {group.name} keeps {group.min} machines always."
    kept = "" if group.idle is None else f" of {duration(group.idle)}"
    return f"{idle}. It ends when its idle limit{kept} is over, unless a task comes."


def _cloud(cloud: CloudState | None, most: int | None) -> str:
    if cloud is None:
        return "none: tasks run on machines that are there" if most is None else "was not asked yet"
    text = f"{cloud.provider} {cloud.region}, cluster {cloud.cluster}"
    if cloud.error is not None:
        return f"{text}, DOES NOT ANSWER"
    return text if cloud.answered_at is None else f"{text}, answered {ago(cloud.answered_at, datetime.now(UTC))}"


def _share(group: MachineGroup) -> str:
    total = sum(machine.cpus for machine in group.machines)
    return f"{total - sum(machine.cpus_free for machine in group.machines):g}/{total:g}"


def _state(group: MachineGroup) -> str:
    if group.state == "ending":
        return "ending"
    if group.troubles:
        return "cannot start"
    return "starting" if group.wanted is not None and group.wanted > len(group.machines) else "ready"
