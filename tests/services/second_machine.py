"""A second machine for a server on this one: a raylet of its own under another host name, in the group `local`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from cluster.head import free_port
from cluster.labels import GROUP_LABEL
from simyard.resources import MIB
from simyard.task import LOCAL_GROUP
from tests.running_server import RunningServer, those, until

NAME = "second-machine"
_TRIES = 4
"""Ray gives up when its raylet has not come up within 30 s, which it does not on a busy machine."""
_UNSHARE = ("unshare", "--uts") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--uts")


def can_have_another_name() -> bool:
    """Say whether a process of ours may run under another host name."""
    return subprocess.run([*_UNSHARE, "hostname", NAME], capture_output=True, check=False).returncode == 0


def start_second_machine(server: RunningServer, *, cpus: int, memory: int, name: str = NAME) -> psutil.Process:
    """Start a second machine, and return its raylet; it ends with the server, at the latest."""
    for _ in range(_TRIES - 1):
        with suppress(AssertionError):
            return _start_once(server, cpus, memory, name)
    return _start_once(server, cpus, memory, name)


def _start_once(server: RunningServer, cpus: int, memory: int, name: str) -> psutil.Process:
    [head] = those(server.processes(), lambda process: process.name() == "raylet")
    known = {process.pid for process in server.processes()}
    state = json.loads((server.data_dir / "server" / "server.json").read_text())
    command = [
        *_UNSHARE,
        "sh",
        "-c",
        f'hostname {name} && exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        f"--address={state['ray_address']}",
        "--node-ip-address=127.0.0.1",
        f"--num-cpus={cpus}",
        f"--memory={memory}",
        f"--object-store-memory={80 * MIB}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--labels={GROUP_LABEL}={LOCAL_GROUP}",
        "--disable-usage-stats",
    ]
    keep = {name: value for name, value in head.environ().items() if name.startswith(("SIMYARD_", "RAY_"))}
    done = subprocess.run(
        command,
        env=os.environ | keep,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    started = those(server.processes(), lambda p: p.pid not in known and p.name() == "raylet")
    if done.returncode != 0:
        for process in started:
            process.kill()
    assert done.returncode == 0, done.stdout + done.stderr
    [raylet] = started
    return raylet


def machines_of(server: RunningServer) -> dict[str, dict[str, Any]]:
    """Return the machines of the group `local` by name."""
    with server.http() as http:
        groups = http.get("/v1/groups").json()["groups"]
    return {machine["name"]: machine for group in groups for machine in group["machines"]}


@contextmanager
def second_machine(server: RunningServer, *, cpus: int, memory: int, name: str = NAME) -> Iterator[psutil.Process]:
    """Give a second machine that the server knows, and take it away again.

    The server may have set one of that name aside after a test: a machine of another name it does not know.
    """
    raylet = start_second_machine(server, cpus=cpus, memory=memory, name=name)
    try:
        until(lambda: name in machines_of(server), what="that the second machine is known")
        yield raylet
    finally:
        # A test may have killed it.
        children = raylet.children(recursive=True) if raylet.is_running() else []
        for process in (raylet, *children):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs([raylet, *children], timeout=30)
        until(lambda: name not in machines_of(server), 120, what="that the second machine is gone")
