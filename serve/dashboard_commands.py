"""`simyard admin ray-dashboard`: Ray's own view of this machine's server."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from serve.secret import load_token
from serve.server import ray_dashboard
from simyard.errors import Unavailable
from storage.settings import load_settings

_PORT = 8265
"""Ray's own, which `ray dashboard` and Ray's documentation name."""


def ray_dashboard_command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 to answer on.")] = _PORT,
) -> None:
    """Show Ray's dashboard of this machine's server until Ctrl-C: machines, actors, load and Ray's logs.

    It is for whoever looks into Ray itself; `simyard cluster status` says what groups and tasks are doing. It takes
    some 400 MiB of memory while it is shown, and from then on 75 MiB on each machine.
    """
    settings = load_settings()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    def ready() -> None:
        typer.echo(f"Ray's dashboard is at http://127.0.0.1:{port}")
        typer.echo(f"  token    {load_token(settings)}")
        typer.echo("Who has the token may run anything as the server's user. Ctrl-C ends it.")

    try:
        ray_dashboard(settings, port, ready)
    except KeyboardInterrupt:
        return
    raise Unavailable("Ray's dashboard has ended, and perhaps its Ray has.", fix="Run the command again.")
