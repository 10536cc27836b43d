"""Ray's own dashboard beside a running head, for as long as somebody looks at it.

No head of ours starts with one (decision 0023): it is ten processes, which are of use only while they are watched. So
are the agents on all machines that tell it their load; see :mod:`cluster.bare_agent`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from cluster.errors import HeadFailed
from cluster.head import HeadPlan, ray_environment

_START_SECONDS = 120.0
_START_LOOK_SECONDS = 0.2
_LOOK_SECONDS = 5.0
_CALL_SECONDS = 5.0


def show_dashboard(plan: HeadPlan, address: str, port: int, ready: Callable[[], None]) -> None:
    """Show the dashboard of the head at an address on a port of 127.0.0.1, until it ends by itself.

    `ready` is called once it answers. Whoever looks at it needs the head's token. Nothing of it is left afterwards,
    also where this is interrupted, but the agents of the machines.

    Raises:
        HeadFailed: it did not start; its last lines stand in the error.
    """
    with _dashboard(plan, address, port) as process:
        ready()
        awake: set[str] = set()
        while process.poll() is None:
            _wake(port, plan.token, awake)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)


@contextmanager
def _dashboard(plan: HeadPlan, address: str, port: int) -> Iterator[subprocess.Popen[str]]:
    log = plan.temp_dir / "dashboard.log"
    with log.open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster.bare_dashboard"],
            env=os.environ | ray_environment(plan),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as told:
                json.dump({"address": address, "folder": str(plan.temp_dir), "port": port}, told)
            deadline = time.monotonic() + _START_SECONDS
            while _get(port, "/") is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    last = output.read().strip().splitlines()[-5:]
                    raise HeadFailed(
                        "Ray's dashboard did not start: " + " | ".join(last),
                        fix=f"Its log is {plan.temp_dir}/session_latest/logs/dashboard.log.",
                    )
                time.sleep(_START_LOOK_SECONDS)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wake(port: int, token: str, awake: set[str]) -> None:
    """Wake the agents of machines that are not `awake`, and add them."""
    answer = _get(port, "/nodes?view=summary", token)
    nodes: list[dict[str, Any]] = [] if answer is None else answer.json()["data"]["summary"]
    for node in nodes:
        raylet = node["raylet"]
        # Of whom the dashboard knows the load, the agent is awake since earlier, and its port is perhaps another's now.
        if raylet["state"] != "ALIVE" or "cpu" in node or raylet["nodeId"] in awake:
            continue
        awake.add(raylet["nodeId"])
        if (agent := raylet["dashboardAgentListenPort"]) > 0:  # a machine of an older release has none
            where = (raylet["nodeManagerAddress"], agent)
            with suppress(OSError), socket.create_connection(where, _CALL_SECONDS) as told:
                told.sendall(token.encode())


def _get(port: int, path: str, token: str = "") -> httpx.Response | None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=_CALL_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return None
    return answer if answer.status_code == 200 else None
