"""`simyard admin quota`, `pause` and `resume`: how much each user may run at a time, and groups that take no tasks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from serve.administration import answer, task_store
from simyard.cli.options import Json
from simyard.cli.show import say_table
from simyard.cli.text import size, used_of
from simyard.errors import InvalidInput, NotFound
from simyard.resources import parse_size
from simyard.task import LOCAL_GROUP
from tasks.rules import Load, Pause, Quota, check_quota, loads_of
from tasks.store import Store

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
    json_: Json = False,
) -> None:
    """Limit what a user, or a project of the user, may run at a time and store; it replaces the quota before.

    What is over it waits. A quota below what runs now is refused.
    """
    quota = Quota(user=user, project=project, running=running, cpus=cpus, storage=_size(storage))
    with task_store() as store:
        _check_user(store, user)
        check_quota(quota, loads_of(store.active()).get(quota.account, Load()))
        store.set_quota(quota)
    answer(json_, asdict(quota), f"The quota of {_whose(quota)} is {_limits(quota)}.")


@commands.command("remove")
def remove_quota(user: UserOption, project: ProjectOption = None, json_: Json = False) -> None:
    """Let a user, or a project of the user, run as much as there is room for."""
    quota = Quota(user=user, project=project)
    with task_store() as store:
        if all(known.account != quota.account for known in store.rules().quotas):
            fix = "`simyard admin quota list` shows all."
            raise NotFound(f"{_whose(quota)} has no quota.", field="--user", fix=fix)
        store.set_quota(quota)
    answer(json_, asdict(quota), f"{_whose(quota)} has no quota any more.")


@commands.command("list")
def list_quotas(json_: Json = False) -> None:
    """List the quotas, and what runs and is stored of each."""
    with task_store() as store:
        quotas, loads, stored = store.rules().quotas, loads_of(store.active()), store.stored()
    found = [(quota, loads.get(quota.account, Load()), stored.get(quota.account, 0)) for quota in quotas]
    if json_:
        rules = [asdict(quota) | {"now": load._asdict() | {"storage": has}} for quota, load, has in found]
        typer.echo(json.dumps({"quotas": rules}))
        return
    rows = [
        (
            quota.user,
            quota.project or "(all)",
            used_of(load.running, quota.running),
            used_of(load.cpus, quota.cpus),
            used_of(has, quota.storage, size),
        )
        for quota, load, has in found
    ]
    say_table(("USER", "PROJECT", "RUNNING", "CPUS", "STORAGE"), rows, fixed=(0, 1, 2, 3, 4), right=(2, 3, 4))


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


def _whose(quota: Quota) -> str:
    return quota.user if quota.project is None else f"{quota.user}'s project {quota.project}"


def _limits(quota: Quota) -> str:
    limits = [] if quota.running is None else [f"{quota.running} running tasks"]
    limits += [] if quota.cpus is None else [f"{quota.cpus:g} cores"]
    limits += [] if quota.storage is None else [f"{size(quota.storage)} of stored outputs"]
    return " and ".join(limits)


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else int(parse_size(text))
    except ValueError as error:
        raise InvalidInput(f"{error}.", field="--storage") from None
