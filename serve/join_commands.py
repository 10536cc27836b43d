"""`simyard join`, which lends this machine to a server, and `simyard admin join-token`, which lets machines join."""

from __future__ import annotations

import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from serve.administration import answer
from serve.join_tokens import JoinTokens
from serve.secret import join_tokens_file
from simyard.cli.options import Json
from simyard.cli.show import say_table
from simyard.errors import InvalidInput, Unavailable
from simyard.profile import is_loopback, normal_url
from simyard.resources import parse_duration, parse_size
from storage.settings import load_settings

commands = typer.Typer(help="Tokens by which machines may join this machine's server.", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the server.", show_default=False)],
    group: Annotated[str, typer.Option(metavar="GROUP", help="The group to be a machine of.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the machine is called; by default its host name.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(metavar="N", help="Cores to lend; by default all.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory to lend, such as 8GiB; by default nine tenths less 1 GiB."),
    ] = None,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long runs may go on when the machine leaves, such as 30s or 2h.")
    ] = "5m",
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the join token; asked for, or read from standard input, where there is none.",
        ),
    ] = None,
) -> None:
    """Lend this machine to a server until Ctrl-C: tasks of its group run here.

    Ctrl-C takes no more tasks and gives what runs its time; a second one ends it at once. What is not done goes back to
    the queue, and no task is charged for it.
    """
    from cluster.head import task_memory
    from cluster.own_size import own_cores
    from serve.guest import Stopping, forget_settings, lend
    from serve.invitation import Loan

    cores, most, folder = own_cores(), task_memory(), load_settings().data_dir.resolve() / "joined"
    loan = Loan(
        url=normal_url(url),
        token=_token(token_file),
        name=_checked(name or socket.gethostname(), "--name"),
        group=_checked(group, "--group"),
        cpus=_at_most(cpus, cores, "--cpus"),
        memory=_at_most(_parsed(parse_size, memory, "--memory"), most, "--memory"),
        grace=float(_parsed(parse_duration, grace, "--grace") or 0.0),
        folder=folder,
    )
    if loan.url.startswith("http://") and not is_loopback(loan.url):
        typer.echo("warning: the connection is not encrypted; others on the network can read the token.", err=True)
    forget_settings()
    stopping = Stopping()
    with stopping.by_signals():
        lend(loan, lambda text: typer.echo(f"simyard: {text}", err=True), stopping)
    typer.echo("simyard: this machine is its owner's alone again", err=True)


def _token(file: Path | None) -> str:
    if file is None:
        if sys.stdin.isatty():
            return str(typer.prompt("Join token", hide_input=True, err=True)).strip()
        found = sys.stdin.readline()
    else:
        try:
            found = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{file} cannot be read: {error}.", field="--token-file") from error
    if not (found := found.strip()).isascii() or not found.isprintable() or not found:
        raise InvalidInput(
            "It is no join token.", field="--token-file", fix="`simyard admin join-token create` makes one."
        )
    return found


def _checked(name: str, field: str) -> str:
    if _NAME.fullmatch(name) is None:
        fix = "Use letters, digits, dots, dashes and underscores, at most 63."
        raise InvalidInput(f"{name!r} is no name.", field=field, fix=fix)
    return name


def _parsed(parse: object, text: str | None, field: str) -> int | None:
    if text is None:
        return None
    assert callable(parse)
    try:
        found = parse(text)
    except ValueError as error:
        raise InvalidInput(str(error), field=field) from None
    return int(found)


def _at_most(asked: int | None, most: int, field: str) -> int:
    if asked is not None and not 1 <= asked <= most:
        raise InvalidInput(f"This machine has {most} for tasks.", field=field, fix=f"Give a number from 1 to {most}.")
    return most if asked is None else asked


def _tokens() -> JoinTokens:
    settings = load_settings()
    if not settings.server_dir.is_dir():
        raise Unavailable(f"There is no server in {settings.data_dir}.", fix="Start one with `simyard up`.")
    return JoinTokens(join_tokens_file(settings))


@commands.command("create")
def create(
    lasts: Annotated[str, typer.Option(metavar="TIME", help="How long it is good for, such as 8h or 365d.")] = "1d",
    json_: Json = False,
) -> None:
    """Make a join token and print it once. Who has it may run anything with the server's rights on its machine."""
    seconds = _parsed(parse_duration, lasts, "--lasts")
    if not seconds or seconds > timedelta(days=36500).total_seconds():
        raise InvalidInput("is no time that a token can last.", field="--lasts", fix="Give for example 8h or 365d.")
    now = datetime.now(UTC)
    secret, made = _tokens().create(now, now + timedelta(seconds=seconds))
    document = {"token": secret, "id": made.id, "expires_at": made.expires_at.isoformat()}
    answer(json_, document, f"{secret}\nIt is {made.id}, good until {made.expires_at:%Y-%m-%d %H:%M} UTC.")


@commands.command("list")
def list_all(json_: Json = False) -> None:
    """List the join tokens, by the ids by which they are revoked."""
    found = _tokens().all()
    rows = [(one.id, f"{one.created_at:%Y-%m-%d %H:%M}", f"{one.expires_at:%Y-%m-%d %H:%M}") for one in found]
    if json_:
        document = [
            {"id": o.id, "created_at": o.created_at.isoformat(), "expires_at": o.expires_at.isoformat()} for o in found
        ]
        answer(json_, {"tokens": document}, "")
    else:
        say_table(("ID", "MADE", "GOOD UNTIL"), rows, fixed=(0, 1, 2))


@commands.command("revoke")
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id.", show_default=False)], json_: Json = False
) -> None:
    """Let nobody join with a token any more. Machines that have joined stay until they leave or the server restarts."""
    _tokens().revoke(token)
    answer(json_, {"revoked": token}, f"{token} is revoked.")
