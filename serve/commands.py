"""The server's commands of the `simyard` program: `up`, `down`, `join`, `admin` and `images`."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import typer
from pydantic import SecretStr

from cluster.cluster_file import check_document, cluster_of
from cluster.head import task_memory
from cluster.own_size import own_cores
from cluster.server_mark import MARK
from cluster.workers import divide
from serve import admin_commands, image_commands, join_commands
from serve.errors import ServerFailed
from serve.secret import load_server_id
from serve.server import ServerState, is_healthy, keep, read_state
from serve.server import stop as stop_server
from simyard.errors import InvalidInput
from simyard.profile import Profile, save_profile, stored_profile
from storage.settings import PREFIX, Settings, load_settings
from tasks.keys import hash_key, new_key
from tasks.store import open_store

DEFAULT_PORT = 8470
_START_SECONDS = 1200.0
"""More than the keeper itself gives all of its steps together."""
_SILENT_SECONDS = 20.0

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the HTTP endpoint.")]
Storage = Annotated[
    str | None, typer.Option(help="URI of the storage, such as s3://bucket/prefix; by default a local folder.")
]
Store = Annotated[
    str | None,
    typer.Option(help="URL of a PostgreSQL database for the queue, without a password; by default a local file."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the server's commands to the program."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("join")(join_commands.join)
    app.add_typer(admin_commands.commands, name="admin")
    app.add_typer(image_commands.commands, name="images")


def up(
    port: Port = DEFAULT_PORT,
    storage: Storage = None,
    store: Store = None,
    host: Annotated[
        str | None, typer.Option(metavar="IP", help="Address to listen on, 0.0.0.0 for all; by default 127.0.0.1.")
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Be the head of the cluster of this file of Ray's autoscaler.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Show this machine as N that share its cores and memory; by default as one."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the server is ready; it goes on.")] = False,
    json_: Json = False,
) -> None:
    """Start a server on this machine: Ray, the dispatcher, the HTTP endpoint and a folder as storage."""
    if store is not None:
        _refuse_password(store)
    cluster_file = None if cluster is None else str(cluster.resolve())
    if workers is not None:
        _check_workers(workers, is_head_only=cluster is not None)
    number = None if workers is None else str(workers)
    given = {"STORAGE": storage, "STORE": store, "HOST": host, "CLUSTER_FILE": cluster_file, "WORKERS": number}
    os.environ.update({PREFIX + name: value for name, value in given.items() if value is not None})
    load_settings.cache_clear()
    settings = load_settings()
    if (file := cluster_of(settings)) is not None:
        # What it cannot be is said here, and not by a server that starts and cannot launch a machine.
        check_document(file.read())
    state = read_state(settings)
    if state is not None and state.is_kept and is_healthy(state.url):
        _tell(settings, state, json_=json_, already=True)
        return
    if settings.store is not None:
        # Whether it can be reached is said here, and not by a server that starts and cannot work.
        open_store(settings.task_store).close()
    if detach:
        _tell(settings, _start_detached(settings, port), json_=json_)
        return

    def ready(state: ServerState) -> None:
        _tell(settings, state, json_=json_)
        _say("Ctrl-C stops it.")

    keep(settings, port, _say, ready)


def _check_workers(workers: int, *, is_head_only: bool) -> None:
    """Return where this machine can show as so many."""
    if is_head_only:
        fix = "Leave --workers out, or start a server without --cluster."
        raise InvalidInput("The head of a cluster carries no tasks itself.", field="--workers", fix=fix)
    divide(socket.gethostname(), own_cores(), task_memory(), 0, workers)


def _refuse_password(store: str) -> None:
    """Return where the URL holds no password: everybody on this machine can read the command lines of all processes."""
    url = urlsplit(store)
    if url.password is not None or "password" in parse_qs(url.query, keep_blank_values=True):
        raise InvalidInput(
            "A password does not belong on the command line.",
            field="--store",
            fix=f"Set {PREFIX}STORE to the URL, or keep the password in ~/.pgpass.",
        )


def _say(text: str) -> None:
    typer.echo(f"simyard: {text}", err=True)


def _start_detached(settings: Settings, port: int) -> ServerState:
    settings.server_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = settings.server_dir / "keeper.log"
    environment = os.environ | {MARK: load_server_id(settings)}
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "serve.keeper", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    began = told = time.monotonic()
    shown = 0
    while time.monotonic() < began + _START_SECONDS:
        lines = log.read_text(errors="replace").splitlines()
        for line in lines[shown:]:
            if line.startswith("simyard: "):
                typer.echo(line, err=True)
        if len(lines) > shown or time.monotonic() - told > _SILENT_SECONDS:
            told = time.monotonic()
            if len(lines) == shown:
                _say(f"still at it after {told - began:.0f} s; a first start on a busy machine is slow")
        shown = len(lines)
        state = read_state(settings)
        if state is not None and state.keeper == keeper.pid:
            return state
        if keeper.poll() is not None:
            last = next((line for line in reversed(lines) if line.startswith("error: ")), " | ".join(lines[-5:]))
            raise ServerFailed(last.removeprefix("error: "), fix=f"The whole log is {log}.")
        time.sleep(0.1)
    keeper.terminate()
    raise ServerFailed(f"The server was not ready within {_START_SECONDS:.0f} s.", fix=f"The log is {log}.")


def _tell(settings: Settings, state: ServerState, *, json_: bool, already: bool = False) -> None:
    """Make sure that the command line knows the server, and say where it is."""
    key = _key_for(settings, state.url)
    if json_:
        typer.echo(json.dumps({"url": state.url, "key": key, "storage": state.storage, "keeper": state.keeper}))
        return
    typer.echo(f"Simyard {'runs already' if already else 'is ready'} at {state.url}")
    typer.echo(f"  API key  {key}")
    typer.echo(f"  storage  {state.storage}")
    typer.echo(f"  API docs {state.url}/docs")
    typer.echo("The `simyard` command knows both. Stop the server with `simyard down`.")


def _key_for(settings: Settings, url: str) -> str:
    """Return a key for this user: the one in the profile where it is valid, else a new one, kept in the profile."""
    profile = stored_profile()
    store = open_store(settings.task_store)
    try:
        known = profile.secret if profile is not None and profile.url == url else None
        if known is not None and store.find_key(hash_key(known)) is not None:
            return known
        key, stored = new_key(getpass.getuser(), datetime.now(UTC))
        store.add_key(stored)
    finally:
        store.close()
    save_profile(Profile(url=url, key=SecretStr(key)))
    return key


def down(json_: Json = False) -> None:
    """Stop the server on this machine; tasks that run are queued again at the next start."""
    settings = load_settings()
    stopped = stop_server(settings)
    if json_:
        typer.echo(json.dumps({"stopped": stopped}))
    else:
        typer.echo("Simyard is stopped." if stopped else "No server of this data folder was running.")
