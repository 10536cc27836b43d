"""The server on this machine: Ray, the dispatcher and the HTTP face, started, watched and stopped together."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import httpx
import psutil
from filelock import FileLock, Timeout

from cluster.cluster_file import cluster_of, live_document, machine_environment
from cluster.dashboard import show_dashboard
from cluster.fork_server import ForkServer, forked
from cluster.group_record import GroupRecord, with_records
from cluster.head import (
    HeadPlan,
    head_address,
    head_fork_server,
    head_is_alive,
    kill_all,
    ray_environment,
    server_processes,
    start_head,
    stop_head,
    when_head_ends,
)
from cluster.labels import DISPATCHER
from cluster.workers import Workers
from serve.errors import ServerFailed
from serve.housekeeping import Housekeeping
from serve.pulse import Pulse
from serve.secret import load_server_id, load_token
from simulators.scratch import sweep
from simulators.work import box_of
from simyard.errors import Conflict, InvalidInput, SimyardError, Unavailable
from simyard.reason import Reason, ReasonCode
from simyard.task import LOCAL_GROUP
from storage.objects import open_store
from storage.once import made_once
from storage.settings import PREFIX, Settings
from tasks.recovery import settle
from tasks.store import Contested, Store, StoreUnavailable
from tasks.store import open_store as open_task_store

_LOCAL = "127.0.0.1"
_READY_SECONDS = 180.0
_RETRY_SECONDS = 30.0
_WATCH_SECONDS = 2.0
_SILENT_SECONDS = 60.0
"""How long nobody may answer before Ray itself is started anew: Serve restarts a replica by itself.

A dispatcher that makes no turn for as long is ended; it may hang, or stand still.
"""


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What is known of a running server: the file `server.json` in its folder."""

    url: str
    ray_address: str
    storage: str
    keeper: int
    """Process id of the keeper, which restarts what dies."""
    keeper_started: float
    """When that process was made, in seconds since 1970: tells it from a later process with the same id."""

    @property
    def is_kept(self) -> bool:
        """Say whether the keeper lives."""
        try:
            return abs(psutil.Process(self.keeper).create_time() - self.keeper_started) < 1.0
        except psutil.Error:
            return False


def read_state(settings: Settings) -> ServerState | None:
    """Return what the server of this data folder wrote of itself; None where none was started or it was stopped."""
    try:
        return ServerState(**json.loads(_state_file(settings).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _state_file(settings: Settings) -> Path:
    return settings.server_dir / "server.json"


def is_healthy(url: str, path: str = "/v1/health") -> bool:
    """Say whether the server answers."""
    try:
        return httpx.get(url + path, timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def start(
    settings: Settings, port: int, say: Callable[[str], None], workers: Workers, fork_server: ForkServer
) -> ServerState:
    """Start the server and return once it is ready to take tasks; `workers` beside the head join a moment later.

    Raises:
        ServerFailed: a part of it did not start; the message says which.
        Conflict: the port is taken, or the data folder belongs to another storage.
    """
    plan = _plan(settings)
    url = _own_url(settings, port)
    _keep_storage(settings)
    if server_processes(plan.server):
        say("ending what an earlier server left behind")
    stop_head(plan.server, spare=fork_server.pids)
    fork_server.start()
    # What a dead head's actors carried goes on meanwhile: the new dispatcher lets others take it over.
    sweep(settings.scratch, current=_current_boxes(settings))
    _check_port(settings.host, port)
    if (file := cluster_of(settings)) is not None:
        # Before the autoscaler reads it: machines that it starts must know how to join.
        environment = machine_environment(plan.environment | ray_environment(plan))
        document = with_records(file.read(), _made_groups(settings))
        # What was asked for stays so until the dispatcher has looked: what runs on those machines is not known before.
        file.write(live_document(document, file.sizes(), head_address(), environment, file.launches))
    settings.scratch.mkdir(parents=True, exist_ok=True)
    say("starting Ray")
    address = start_head(plan, fork_server)
    workers.begin(address, plan.group, plan.shares, plan.environment | ray_environment(plan))
    say("starting the dispatcher and the HTTP endpoint")
    _deploy(settings, plan, port, address, fork_server)
    fork_server.is_warm = True
    me = psutil.Process()
    state = ServerState(
        url=url, ray_address=address, storage=settings.storage_uri, keeper=me.pid, keeper_started=me.create_time()
    )
    _write_state(settings, state)
    return state


def keep(settings: Settings, port: int, say: Callable[[str], None], ready: Callable[[ServerState], None]) -> None:
    """Start the server, keep it alive until this process is asked to end, and stop it.

    Raises:
        Conflict: another process keeps this server.
        ServerFailed: it did not start.
    """
    settings.server_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    stopping, look = Event(), Event()

    def heed(*_: object) -> None:
        stopping.set()
        look.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, heed)
    try:
        with FileLock(settings.server_dir / "lock", timeout=0):
            failed = True
            workers = Workers()
            try:
                with closing(head_fork_server(_plan(settings))) as fork_server:
                    ready(start(settings, port, say, workers, fork_server))
                    with closing(Housekeeping(settings, _plan(settings).environment)) as housekeeping:
                        _watch(settings, port, say, (stopping, look), housekeeping, workers, fork_server)
                failed = False
            finally:
                say("stopping")
                _stop(settings, keep_logs=failed)
    except Timeout:
        raise Conflict(
            "The server of this data folder is running already.", fix="Stop it with `simyard down`."
        ) from None


def _watch(
    settings: Settings,
    port: int,
    say: Callable[[str], None],
    events: tuple[Event, Event],
    housekeeping: Housekeeping,
    workers: Workers,
    fork_server: ForkServer,
) -> None:
    """Start the server anew whenever Ray's head is gone or nobody answers; Ray itself restarts all the rest.

    The events are set when this is to end, and when something may have happened before the next look is due.
    """
    stopping, look = events
    url, server = _own_url(settings, port), load_server_id(settings)
    answered = time.monotonic()
    dispatcher = Pulse(settings.dispatcher_beat, _SILENT_SECONDS)
    when_head_ends(server, look.set)
    while True:
        look.wait(_WATCH_SECONDS)
        look.clear()
        if stopping.is_set():
            return
        housekeeping.look()
        alive = head_is_alive(server)
        if is_healthy(url):
            answered = time.monotonic()
        if alive and time.monotonic() - answered < _SILENT_SECONDS:
            if dispatcher.is_silent():
                say("the dispatcher does not go on; ending it, so that Ray starts it again")
                kill_all(server, DISPATCHER)
            for name in workers.look():
                say(f"the worker {name} has died; starting it again")
            if fork_server.mend():
                say("the fork server has died; starting it again")
            continue
        say("the server has died; starting it again" if not alive else "the server does not answer; starting it again")
        try:
            start(settings, port, say, workers, fork_server)
            answered = time.monotonic()
            when_head_ends(server, look.set)
        except SimyardError as error:
            say(f"{error} The next try is in {_RETRY_SECONDS:.0f} s.")
            stopping.wait(_RETRY_SECONDS)


def ray_dashboard(settings: Settings, port: int, ready: Callable[[], None]) -> None:
    """Show Ray's dashboard of this data folder's server on a port of 127.0.0.1 until it ends; `ready` once it is there.

    Raises:
        Unavailable: no server runs.
        Conflict: the port is taken.
        HeadFailed: it did not start.
    """
    state = read_state(settings)
    if state is None or not state.is_kept:
        raise Unavailable(f"No server of {settings.data_dir} runs here.", fix="Give the command where it runs.")
    _check_port(_LOCAL, port)
    show_dashboard(_plan(settings), state.ray_address, port, ready)


def stop(settings: Settings) -> bool:
    """Stop the server of this data folder with all its simulations; says whether there was anything to stop."""
    state = read_state(settings)
    found = bool(server_processes(load_server_id(settings)))
    if state is not None and state.is_kept:
        found = True
        keeper = psutil.Process(state.keeper)
        keeper.terminate()
        try:
            keeper.wait(30)
        except psutil.TimeoutExpired:
            keeper.kill()
    _stop(settings)
    return found


def _stop(settings: Settings, *, keep_logs: bool = False) -> None:
    """End all of the server; Ray's logs stay where an error points to them."""
    plan = _plan(settings)
    stop_head(plan.server)
    sweep(settings.scratch, current=())
    _give_back(settings)
    if not keep_logs:
        shutil.rmtree(plan.temp_dir, ignore_errors=True)
    _state_file(settings).unlink(missing_ok=True)


def _give_back(settings: Settings) -> None:
    """Queue what ran again, without charging the tasks for it: the server was stopped on purpose."""
    if settings.store is None and not settings.database.exists():
        return
    reason = Reason(code=ReasonCode.PREEMPTED, message="The server was stopped while it ran.")
    try:
        store, objects = open_task_store(settings.task_store), open_store(settings.storage_uri)
    except StoreUnavailable:
        return  # likewise settled at the next start, or by the server that takes over
    try:
        # What runs is this server's affair only where it leads; then another one may follow at once.
        server = load_server_id(settings)
        if isinstance(store, Contested) and not store.lead(server, settings.lease_seconds):
            return
        for record in store.active():
            with suppress(SimyardError):  # at the next start the dispatcher settles what could not be settled now
                settle(store, objects, record.task.id, record.attempt, reason, datetime.now(UTC))
        if isinstance(store, Contested):
            store.lead(server, 0)
    except StoreUnavailable:
        return
    finally:
        store.close()


def _current_boxes(settings: Settings) -> frozenset[str]:
    """Return the names of the runs whose attempts are current."""
    with _kept_store(settings) as store:
        return frozenset(box_of(record.id, record.attempt) for record in store.active())


def _made_groups(settings: Settings) -> list[GroupRecord]:
    """Return the machine groups that were made by a command; the autoscaler must know whose machines it finds."""
    with _kept_store(settings) as store:
        return store.group_records()


@contextmanager
def _kept_store(settings: Settings) -> Iterator[Store]:
    """Give the store of tasks, an empty one where nothing has been kept yet: no file is made by asking."""
    is_new = settings.store is None and not settings.database.exists()
    store = open_task_store("memory:" if is_new else settings.task_store)
    try:
        yield store
    finally:
        store.close()


def _plan(settings: Settings) -> HeadPlan:
    environment = {
        PREFIX + "DATA_DIR": str(settings.data_dir.resolve()),
        PREFIX + "STORAGE": settings.storage_uri,
        PREFIX + "LEASE_SECONDS": str(settings.lease_seconds),
        PREFIX + "WARM_SECONDS": str(settings.warm_seconds),
        PREFIX + "KEEP_INPUTS": str(settings.keep_inputs),
    }
    if settings.cluster_file is not None:
        environment[PREFIX + "CLUSTER_FILE"] = str(settings.cluster_file.resolve())
    if settings.store is not None:
        environment[PREFIX + "STORE"] = settings.store.get_secret_value()
    return HeadPlan(
        server=load_server_id(settings),
        group=LOCAL_GROUP,
        token=load_token(settings),
        scratch=settings.scratch,
        kept_inputs=settings.kept_inputs,
        environment=environment,
        cluster_file=settings.cluster_file,
        address=_outward(settings.host),
        workers=1 if settings.cluster_file is not None else settings.workers,
    )


def _outward(host: str) -> str | None:
    """Return the one address on which the endpoint listens, where that is not this machine's loopback.

    Raises:
        InvalidInput: it is no address.
    """
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        fix = "Give an IPv4 address of this machine, or 0.0.0.0 for all."
        raise InvalidInput(f"{host!r} is no address.", field="--host", fix=fix) from None
    return None if address.is_loopback or address.is_unspecified else host


def _own_url(settings: Settings, port: int) -> str:
    """Return where this machine itself finds the endpoint."""
    return f"http://{_outward(settings.host) or _LOCAL}:{port}"


def _keep_storage(settings: Settings) -> None:
    """Refuse to open a data folder with another storage than the one that holds its tasks' outputs."""
    kept = made_once(settings.server_dir / "storage", lambda: settings.storage_uri)
    if kept != settings.storage_uri:
        raise Conflict(
            f"The data folder {settings.data_dir} belongs to the storage {kept}.",
            field="--storage",
            fix=f"Give --storage {kept}, or set SIMYARD_DATA_DIR to another folder.",
        )


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(f"Port {port} is taken.", field="--port", fix="Give another one with --port.") from error


def _deploy(settings: Settings, plan: HeadPlan, port: int, address: str, fork_server: ForkServer) -> None:
    """Put the dispatcher and the HTTP face onto the Ray at an address, and return once they are ready."""
    command, server = forked(fork_server.path, "-m", "serve.deployment", address, settings.host, str(port))
    environment = os.environ | plan.environment | ray_environment(plan) | server
    log, url = settings.server_dir / "deploy.log", _own_url(settings, port)
    deadline = time.monotonic() + _READY_SECONDS
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
        ) as program,
    ):
        try:
            # The server may answer seconds before the program has seen that all is well.
            while not is_healthy(url, "/v1/ready"):
                if program.poll() not in (None, 0):
                    last = " | ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
                    raise ServerFailed(f"The HTTP endpoint did not start: {last}", fix=f"The whole log is {log}.")
                if time.monotonic() > deadline:
                    raise ServerFailed(
                        f"{url} was not ready within {_READY_SECONDS:.0f} s.", fix="Ask /v1/ready what is missing."
                    )
                time.sleep(0.1)
        finally:
            program.kill()


def _write_state(settings: Settings, state: ServerState) -> None:
    path = _state_file(settings)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state)))
    fresh.replace(path)
