"""`simyard admin quota`, `pause` and `resume`: how much each user may run at a time, and groups that take no tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from serve.administration import answer, task_store
from simyard.cli.options import Json
from simyard.cli.show import say_table
from simyard.cli.text import size, usd
from simyard.errors import InvalidInput, NotFound
from simyard.resources import parse_size
from simyard.task import LOCAL_GROUP
from tasks.rules import Load, Pause, Quota, check_quota, loads_of
from tasks.store import Store

_Line = tuple[str, float, float | None, Callable[[float], str]]

commands = typer.Typer(help="How much each user may run at a time.", no_args_is_help=True)
UserOption = Annotated[str, typer.Option("--user", metavar="USER", help="Whose.", show_default=False)]
ProjectOption = Annotated[str | None, typer.Option("--project", metavar="P", help="Only of this project of the user.")]
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The machine group.")]


def register(admin: typer.Typer) -> None:
    """Add the commands to `simyard admin`."""
    admin.add_typer(commands, name="quota")
    admin.command("pause")(pause)
    admin.command("resume")(resume)


@commands.command("set")
def set_quota(
    user: UserOption,
    project: ProjectOption = None,
    running: Annotated[int | None, typer.Option(metavar="N", help="So many tasks.")] = None,
    cpus: Annotated[float | None, typer.Option(metavar="CPUS", help="So many cores.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="SIZE", help="So much of stored outputs, such as 500GB; then nothing starts.")
    ] = None,
    usd_per_hour: Annotated[
        float | None, typer.Option(metavar="USD", help="So much an hour for all that runs, in US dollars.")
    ] = None,
    usd_per_month: Annotated[
        float | None, typer.Option(metavar="USD", help="So much in a calendar month; then nothing starts.")
    ] = None,
    json_: Json = False,
) -> None:
    """Limit what a user, or a project of the user, may run at a time, store and spend; it replaces the quota before.

    What is over it waits. A quota below what runs now is refused.
    """
    quota = Quota(
        user=user,
        project=project,
        running=running,
        cpus=cpus,
        storage=_size(storage),
        usd_per_hour=usd_per_hour,
        usd_per_month=usd_per_month,
    )
    with task_store() as store:
        _check_user(store, user)
        check_quota(quota, loads_of(store.active(), datetime.now(UTC)).get(quota.account, Load()))
        store.set_quota(quota)
    answer(json_, asdict(quota), f"The quota of {_whose(quota)} is {_limits(quota)}.")


@commands.command("remove")
def remove_quota(user: UserOption, project: ProjectOption = None, json_: Json = False) -> None:
    """Let a user, or a project of the user, run as much as there is room for."""
    quota = Quota(user=user, project=project)
    with task_store() as store:
        if all(known.account != quota.account for known in store.rules(datetime.now(UTC)).quotas):
            fix = "`simyard admin quota list` shows all."
            raise NotFound(f"{_whose(quota)} has no quota.", field="--user", fix=fix)
        store.set_quota(quota)
    answer(json_, asdict(quota), f"{_whose(quota)} has no quota any more.")


@commands.command("list")
def list_quotas(json_: Json = False) -> None:
    """List the quotas, and what runs, is stored and was spent this month of each."""
    now = datetime.now(UTC)
    with task_store() as store:
        quotas, loads, stored = store.rules(now).quotas, loads_of(store.active(), now), store.stored()
        spent = store.spent(now)
    found = [
        (quota, load, stored.get(quota.account, 0), spent.get(quota.account, 0.0) + load.usd)
        for quota in quotas
        for load in [loads.get(quota.account, Load())]
    ]
    if json_:
        rules = [
            asdict(quota)
            | {
                "now": {
                    "running": load.running,
                    "cpus": load.cpus,
                    "storage": has,
                    "usd_per_hour": load.usd_per_hour,
                    "usd_per_month": cost,
                }
            }
            for quota, load, has, cost in found
        ]
        typer.echo(json.dumps({"quotas": rules}))
        return
    rows = [
        (quota.user, quota.project or "(all)", name, shown(used), shown(limit))
        for quota, load, has, cost in found
        for name, used, limit, shown in _lines(quota, load, has, cost)
        if limit is not None
    ]
    say_table(("USER", "PROJECT", "QUOTA", "NOW", "LIMIT"), rows, fixed=(0, 1, 2, 3, 4), right=(3, 4))


def pause(group: GroupArgument = LOCAL_GROUP, json_: Json = False) -> None:
    """Let nobody's tasks start in a machine group until it is resumed; what runs goes on."""
    with task_store() as store:
        store.pause(Pause(group=group))
    answer(json_, {"group": group, "paused": True}, f"{group} is paused for everybody.")


def resume(group: GroupArgument = LOCAL_GROUP, json_: Json = False) -> None:
    """Let tasks start in a machine group again, but for users who have paused it for themselves."""
    with task_store() as store:
        store.resume(Pause(group=group))
    answer(json_, {"group": group, "paused": False}, f"{group} goes on.")


def _check_user(store: Store, user: str) -> None:
    known = sorted({key.user for key in store.list_keys()})
    if user not in known:
        fix = f"Known: {', '.join(known) or 'nobody'}."
        raise InvalidInput(f"No key belongs to {user!r}.", field="--user", fix=fix)


def _lines(quota: Quota, load: Load, stored: int, cost: float) -> Iterator[_Line]:
    """Give each thing that a quota may limit: its name, how much there is now, the limit, and how it is shown."""
    yield "running tasks", load.running, quota.running, "{:g}".format
    yield "cores", load.cpus, quota.cpus, "{:g}".format
    yield "stored outputs", stored, quota.storage, size
    yield "cost an hour", load.usd_per_hour, quota.usd_per_hour, usd
    yield "cost this month", cost, quota.usd_per_month, usd


def _whose(quota: Quota) -> str:
    return quota.user if quota.project is None else f"{quota.user}'s project {quota.project}"


def _limits(quota: Quota) -> str:
    limits = [] if quota.running is None else [f"{quota.running} running tasks"]
    limits += [] if quota.cpus is None else [f"{quota.cpus:g} cores"]
    limits += [] if quota.storage is None else [f"{size(quota.storage)} of stored outputs"]
    limits += [] if quota.usd_per_hour is None else [f"{usd(quota.usd_per_hour)} an hour"]
    limits += [] if quota.usd_per_month is None else [f"{usd(quota.usd_per_month)} a month"]
    return " and ".join(limits)


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else int(parse_size(text))
    except ValueError as error:
        raise InvalidInput(f"{error}.", field="--storage") from None
