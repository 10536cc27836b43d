"""`simyard login`: checks a server's address and key, and keeps them for the other commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from simyard.cli import session
from simyard.cli.options import Json
from simyard.cli.show import say_json
from simyard.errors import InvalidInput


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the server.")],
    key: Annotated[
        str | None, typer.Option(help="API key; asked for, or read from standard input, where it is not given.")
    ] = None,
    json_: Json = False,
) -> None:
    """Log in to a server; later commands and Python clients use it."""
    from pydantic import SecretStr

    from simyard.profile import Profile, is_loopback, normal_url, save_profile

    url = normal_url(url)
    secret = (key if key is not None else _ask()).strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        raise InvalidInput("It is not an API key.", field="key", fix="The server's operator gives you one.")
    with session.connect(url, secret) as client:
        version = client.health().version
        client.tasks.page(limit=1)
    if url.startswith("http://") and not is_loopback(url):
        typer.echo("warning: the connection is not encrypted; others on the network can read the key.", err=True)
    path = save_profile(Profile(url=url, key=SecretStr(secret)))
    if json_:
        say_json({"url": url, "version": version, "profile": str(path)})
    else:
        typer.echo(f"Logged in to {url} (Simyard {version}).")


def _ask() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("API key", hide_input=True, err=True))
    return sys.stdin.readline()
