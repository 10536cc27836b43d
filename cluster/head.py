"""The Ray head of a server on this machine: started, found again and stopped, and nothing of anybody else's touched."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.disk import task_disk
from cluster.errors import HeadFailed
from cluster.fleet import offered_memory
from cluster.fork_server import FORK_SERVER, HEAD_MODULES, ForkServer, forked
from cluster.labels import CARRIER, DISK_LABEL, GROUP_LABEL
from cluster.own_size import own_cores, own_memory
from cluster.server_mark import MARK, temp_dir
from cluster.workers import Share, divide
from simyard.resources import MIB

HEAD_PORT = 6379
"""Where machines of a cluster find the head."""

_AUTOSCALER = {
    "RAY_enable_autoscaler_v2": "1",
    # One machine a request: of a request for several the provider may grant a part, and Ray waits minutes for the rest.
    "AUTOSCALER_MAX_LAUNCH_BATCH": "1",
    "AUTOSCALER_MAX_CONCURRENT_LAUNCHES": "1000",
    "RAY_AUTOSCALER_RECONCILE_REQUEST_STATUS_TIMEOUT_S": "60",
    # A launch that fails is tried in each subnet once; `cluster.launches` says when again.
    "BOTO_CREATE_MAX_RETRIES": "1",
}
_START_SECONDS = 180.0
"""A first start compiles Ray's thousands of modules: on a busy machine that took more than 90 s."""
_TRIES = 4
"""Ray itself gives up when its raylet has not come up within 30 s, which it does not on a busy machine."""
_STOP_SECONDS = 3.0
_HEAD = {"gcs_server", "raylet"}


@dataclass(frozen=True, kw_only=True)
class HeadPlan:
    """What the head of one server is started with."""

    server: str
    """The server's id."""
    token: str
    """What a process must know to speak to this Ray; Ray listens on the machine's address, not only on loopback."""
    group: str
    """The group that this machine belongs to."""
    scratch: Path
    """The folder in which tasks run on this machine."""
    kept_inputs: Path
    """The folder of the inputs that this machine keeps."""
    environment: dict[str, str]
    """Added to this process's environment for all of Ray's processes."""
    cluster_file: Path | None = None
    """Ray's autoscaler file, where other machines carry the tasks and this one is the head alone."""
    address: str | None = None
    """This machine's address at which others reach it; by default the one that Ray finds."""
    workers: int = 1
    """As how many machines this one shows, the head among them."""

    @property
    def temp_dir(self) -> Path:
        """Ray's folder for sockets and logs."""
        return temp_dir(self.server)

    @property
    def shares(self) -> tuple[Share, ...]:
        """What the workers have of this machine, the head's first.

        Raises:
            InvalidInput: it has not cores enough.
        """
        disk = task_disk(self.scratch, self.kept_inputs)
        return divide(socket.gethostname(), own_cores(), task_memory(), disk, self.workers)


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody uses at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def head_address() -> str:
    """Return the address at which other machines find a head on this one; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return f"{probe.getsockname()[0]}:{HEAD_PORT}"


def head_fork_server(plan: HeadPlan) -> ForkServer:
    """Return the fork server of a head, which is not started yet; its socket and its log are in Ray's folder."""
    folder, environment = plan.temp_dir, plan.environment | ray_environment(plan)
    return ForkServer(folder / FORK_SERVER, HEAD_MODULES, environment, log=folder / "fork_server.log")


def start_head(plan: HeadPlan, fork_server: ForkServer) -> str:
    """Start a Ray head on this machine and return its address; where the machine is too busy, it is tried again.

    Raises:
        HeadFailed: Ray did not start; its last lines stand in the error.
    """
    for _ in range(_TRIES - 1):
        try:
            return _start_once(plan, fork_server)
        except HeadFailed:
            stop_head(plan.server)
            fork_server.start()
    return _start_once(plan, fork_server)


def _start_once(plan: HeadPlan, fork_server: ForkServer) -> str:
    port = HEAD_PORT if plan.cluster_file is not None else free_port()
    told = {
        "fork_server": str(fork_server.path),
        "port": port,
        "address": plan.address,
        "temp_dir": str(plan.temp_dir),
        "cpus": plan.shares[0].cpus,
        "memory": plan.shares[0].memory,
        "object_store_memory": 256 * MIB,
        "agent_port": free_port(),
        "labels": {GROUP_LABEL: plan.group, DISK_LABEL: str(plan.shares[0].disk)},
    }
    if plan.cluster_file is not None:
        told |= {"cpus": 0, "labels": {}, "cluster_file": str(plan.cluster_file)}
    program, more = ("-m", "cluster.bare_head"), dict[str, str]()
    command = [sys.executable, *program]
    if fork_server.is_warm:
        command, more = forked(fork_server.path, *program)
    try:
        done = subprocess.run(
            command,
            env=os.environ | plan.environment | ray_environment(plan) | more,
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            check=False,
            start_new_session=True,
            cwd="/",
        )
    except subprocess.TimeoutExpired as error:
        raise HeadFailed(f"Ray did not start within {_START_SECONDS:.0f} s.", fix=_look(plan)) from error
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-10:]
        raise HeadFailed("Ray did not start: " + " | ".join(last), fix=_look(plan))
    return f"{plan.address or '127.0.0.1'}:{port}"


def ray_environment(plan: HeadPlan) -> dict[str, str]:
    """Return the variables that every process which speaks to this Ray needs."""
    return {
        MARK: plan.server,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": plan.token,
        # Ray must not phone home; and its memory monitor would kill workers for what simulations use.
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        # A machine that refuses five looks is dead: at Ray's 3 s between them that took a quarter of a minute.
        # One that gives no answer still has Ray's 10 s for each.
        "RAY_health_check_period_ms": "1000",
    } | (_AUTOSCALER if plan.cluster_file is not None else {})


def _look(plan: HeadPlan) -> str:
    return f"Ray's logs are in {plan.temp_dir}/session_latest/logs."


def task_memory() -> int:
    """Return the bytes of this machine's memory that tasks may take together."""
    return offered_memory(own_memory())


def server_processes(server: str) -> list[psutil.Process]:
    """Return the living processes that carry the server's mark, without this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == server or _writes_logs(process, server):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _writes_logs(process: psutil.Process, server: str) -> bool:
    """Say whether a process is Ray's and writes into the server's folder.

    A Ray process that gives itself a title writes it over its environment, and with it over the mark.
    """
    folder = f"{temp_dir(server)}/"
    return process.name().startswith("ray::") and any(file.path.startswith(folder) for file in process.open_files())


def stop_head(server: str, *, spare: frozenset[int] = frozenset()) -> None:
    """End every process of the server but those to spare; what carries a run is given some seconds to save it.

    Raises:
        HeadFailed: some are still there after that.
    """
    killing = time.monotonic() + _STOP_SECONDS
    deadline = killing + 10.0
    asked: set[int] = set()
    while left := [p for p in server_processes(server) if p.pid not in spare]:
        # Of all of them only these do something about being asked, and they cannot without the others.
        carriers = [p for p in left if _title(p).startswith(CARRIER)]
        if carriers and time.monotonic() < killing:
            ending = carriers
            _signal([p for p in carriers if p.pid not in asked], signal.SIGTERM)
            asked.update(p.pid for p in carriers)
        else:
            ending = left
            _signal(left, signal.SIGKILL)
        psutil.wait_procs(ending, timeout=0.2)
        if time.monotonic() > deadline:
            raise HeadFailed(f"Processes {sorted(p.pid for p in left)} do not end.", fix="Look at them with ps.")


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def kill_all(server: str, title: str) -> None:
    """End the processes of a server whose title begins so, at once."""
    _signal([process for process in server_processes(server) if _title(process).startswith(title)], signal.SIGKILL)


def _title(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def head_is_alive(server: str) -> bool:
    """Say whether the two processes that a Ray head cannot do without are there; another machine's raylet is none."""
    return {_role(process) for process in server_processes(server)} >= _HEAD


def when_head_ends(server: str, tell: Callable[[], None]) -> None:
    """Call `tell`, from another thread, once one of the two processes that a head cannot do without has ended."""
    found = []
    for process in server_processes(server):
        if _role(process) in _HEAD:
            with suppress(ProcessLookupError):
                found.append(os.pidfd_open(process.pid))

    def wait() -> None:
        if len(found) == len(_HEAD):
            select.select(found, [], [])
        for one in found:
            os.close(one)
        tell()

    threading.Thread(target=wait, name="head's end", daemon=True).start()


def _role(process: psutil.Process) -> str:
    """Return what a process is for the head, by its name; empty where it is gone, or is another machine's raylet."""
    name = _title(process)
    try:
        return "" if name == "raylet" and "--head" not in process.cmdline() else name
    except psutil.Error:
        return ""
