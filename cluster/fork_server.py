"""The process that a machine's Ray workers are forked from: what all of them need is imported once, and not by each.

A worker that Ray starts imports Ray twice, and then Serve or Simyard: seconds of CPU before it does anything, and that
again after each death of a dispatcher or an HTTP face. Here the raylet starts `cluster/forked.py` in its place, which
imports next to nothing. It hands its arguments, environment and files to this process, whose child becomes the worker.
Where that cannot be, it becomes the worker itself, as Ray has it. Decision 0034 has the figures.

The two speak over a Unix socket that only this user may connect to. A request is one packet, a JSON object of
:class:`_Request` with the three standard files; the answer is `REFUSED`, or the child's, `BEGUN` and at last its exit
code. Where the socket is closed without one, nobody was forked who lives.

It is not Ray's, and serves one raylet after the other: where all of Ray has died, the next is there without any import.
A worker ends with the raylet that its environment names, and not with this process.

`python -m cluster.fork_server SOCKET MODULE...` serves on an inherited socket. It ends once its owner has, which holds
the other end of its standard input, and the last raylet for which it has forked.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from cluster.forked import ADDRESS, BEGUN, REFUSED
from simulators.supervisor.priority import set_oom_score

FORKED = str(Path(__file__).with_name("forked.py"))
"""The program that stands for one that is forked."""

FORK_SERVER = "fork-server"
"""The socket of a head's, in Ray's folder."""

HEAD_MODULES = (
    "serve.deployment",
    "serve.api",
    "tasks.dispatcher",
    "simulators.actor",
    "ray.serve._private.controller",
    "ray.serve._private.replica",
)
"""What the workers of a head import."""
MEMBER_MODULES = ("simulators.actor",)
"""What the workers of another machine import."""

_NO_JOB = "ffffffff"
_RAYLET = "RAY_RAYLET_PID"
"""The environment variable in which a raylet names itself to its workers."""
_PACKET = 1 << 20
"""Bytes; the kernel allows a request less."""
_REQUEST_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 3600.0
"""Seconds between two starts of a fork server that dies; each pause is twice as long as the one before."""


def forked(socket_path: Path, *argv: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line that runs a Python program as a fork of the server, and what its environment needs."""
    return [sys.executable, FORKED, *argv], {ADDRESS: str(socket_path)}


class Mending:
    """When a fork server that has died is started again: more and more seldom.

    One that cannot serve here costs seconds of a core at each try.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pause = _FIRST_PAUSE
        self._not_before = float("-inf")

    def is_wanted(self) -> bool:
        """Say whether it is time to; then it counts as a try."""
        now = self._now()
        if now < self._not_before:
            return False
        if now >= self._not_before + self._pause:
            self._pause = _FIRST_PAUSE  # it has held out
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True


class ForkServer:
    """The fork server of this process, which owns it: it serves as long as this process, and its raylets, live.

    Args:
        path: its socket.
        modules: what its workers import.
        environment: what is added to this process's environment for it.
        log: where it complains; by default where this process does.
    """

    def __init__(
        self, path: Path, modules: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None
    ) -> None:
        self.path = path
        self._modules = modules
        self._environment = dict(environment)
        self._log = log
        self._mending = Mending()
        self._process: subprocess.Popen[bytes] | None = None
        self.is_warm = False
        """Whether it has served, and so has imported everything; whoever sees that says so."""

    @property
    def pids(self) -> frozenset[int]:
        """Its process id while it lives."""
        lives = self._process is not None and self._process.poll() is None
        return frozenset({self._process.pid}) if self._process is not None and lives else frozenset()

    def start(self) -> None:
        """Start it where it does not live. From then on a request waits until everything is imported."""
        if self.pids:
            return
        self.close()
        self.is_warm = False
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.unlink(missing_ok=True)  # of one that was killed
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
            nullcontext() if self._log is None else self._log.open("wb") as output,
        ):
            # As the kernel has it, who may write to the file may connect.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(str(self.path))
            listener.listen(128)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cluster.fork_server", str(listener.fileno()), *self._modules],
                env=os.environ | self._environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
                # Ctrl-C is for its owner, and workers are nobody's foreground.
                start_new_session=True,
                cwd="/",
            )

    def close(self) -> None:
        """Own it no more: it ends, or goes on for the raylets that need it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def mend(self) -> bool:
        """Start it again where nobody serves; says whether that was so.

        Until it does, Ray starts each worker by itself, seconds slower.
        """
        if self.pids or not self._mending.is_wanted():
            return False
        self.start()
        return True


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the worker is to be."""

    argv: list[str]
    environment: dict[str, str]
    nice: int
    oom_score: int
    """How soon the kernel ends it where memory runs out; Ray's raylet sets it for what it has started."""
    blocked: list[int]
    """The signals that it does not heed."""
    files: list[int]
    """Its standard files."""


def _import(modules: Sequence[str]) -> dict[str, str]:
    """Import all that a worker needs, and make sure that a fork will be as good as a process of its own.

    Returns what the imports have put into the environment, which is there in a process that imports by itself.

    Raises:
        RuntimeError: it would not be.
    """
    before = dict(os.environ)
    # Ray reads these when it is imported: a worker of no job yet, as those are that Ray starts beforehand. It would end
    # when that process does, the first of all; its own raylet is watched by ours.
    os.environ |= {"RAY_JOB_ID": _NO_JOB, _RAYLET: "1"}
    # Nothing that an import makes is garbage for long, and to look for it again and again takes a twelfth of the time.
    gc.disable()
    # NumPy's threads would not be there in a fork.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import ray.actor

    from cluster.bare_worker import leave_arrow_out

    leave_arrow_out()
    # Ray draws an id for each remote class that it meets. Its generator would start with that, and go on in all workers
    # with the same ids for their tasks and objects.
    drawn = vars(ray.actor)["ActorClassID"]
    vars(ray.actor)["ActorClassID"] = SimpleNamespace(from_random=lambda: drawn(os.urandom(drawn.size())))
    for module in modules:
        importlib.import_module(module)
    vars(ray.actor)["ActorClassID"] = drawn
    if (threads := [task.name for task in Path("/proc/self/task").iterdir()])[1:]:
        raise RuntimeError(f"Threads {threads} run after the imports; a fork would have one of them.")
    if _draw() == _draw():
        raise RuntimeError("Ray's random numbers have begun; all forks would have the same ones.")
    # What is here now stays: a worker that looks through its garbage would copy all of it.
    gc.collect()
    gc.freeze()
    gc.enable()
    own = {"RAY_JOB_ID", _RAYLET, "OPENBLAS_NUM_THREADS"}
    return {name: value for name, value in os.environ.items() if name not in before and name not in own}


def _draw() -> bytes:
    """Return the first id that a fork draws."""
    import ray

    heard, told = os.pipe()
    if os.fork() == 0:
        os.write(told, ray.WorkerID.from_random().binary())
        os._exit(0)
    os.close(told)
    found = os.read(heard, 100)
    os.close(heard)
    os.wait()
    return found


def _serve(listener: socket.socket) -> tuple[_Request, socket.socket]:
    """Fork for each request, until owner and raylets have ended; returns in the children alone, with who has asked."""
    # A worker that has ended leaves no zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    owner, raylets = [sys.stdin.fileno()], dict[str, int]()
    """Files that can be read once those have ended for whom this goes on."""
    while owner or raylets:
        ready, _, _ = select.select([listener.fileno(), *owner, *raylets.values()], [], [])
        owner = [file for file in owner if file not in ready]
        for raylet in [raylet for raylet, file in raylets.items() if file in ready]:
            os.close(raylets.pop(raylet))
        if listener.fileno() not in ready:
            continue
        connection, _ = listener.accept()
        with connection:
            request, is_child = _fork(connection)
            if request is not None and is_child:
                listener.close()
                for file in raylets.values():
                    os.close(file)
                return request, connection.dup()
        raylet = "" if request is None else request.environment.get(_RAYLET, "")
        if raylet and raylet not in raylets:
            with suppress(ValueError, ProcessLookupError):
                raylets[raylet] = os.pidfd_open(int(raylet))
    with suppress(OSError):  # the folder is gone already
        Path(listener.getsockname()).unlink()
    os._exit(0)


def _fork(connection: socket.socket) -> tuple[_Request | None, bool]:
    """Fork for the request of a connection, or refuse it; returns it, and whether this is the child, which answers."""
    connection.settimeout(_REQUEST_SECONDS)
    request: _Request | None = None
    files: list[int] = []
    try:
        packet, files, _, _ = socket.recv_fds(connection, _PACKET, 3)
        request = _Request(**json.loads(packet), files=files)
        if os.fork() == 0:
            return request, True
    except (OSError, TypeError, ValueError):
        # Whoever has asked has ended, or is of another release, or the machine has no room for a process more.
        with suppress(OSError):
            connection.send(REFUSED)
    for file in files:
        os.close(file)
    return request, False


def _end_with(raylet: int) -> None:
    """End this process once its raylet has ended; how Ray does so itself was decided when it was imported."""
    try:
        handle = os.pidfd_open(raylet)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([handle], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="end of the raylet", daemon=True).start()


def _be(request: _Request, asked: socket.socket, imported: Mapping[str, str]) -> None:
    """Be the program, in a process that is as Ray's raylet would have started it."""
    with suppress(OSError):  # it has ended meanwhile, and whoever started it knows
        asked.send(BEGUN)
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, request.nice)
    set_oom_score(request.oom_score)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked)
    os.environ.clear()
    os.environ.update({**imported, **request.environment})
    if raylet := request.environment.get(_RAYLET):
        _end_with(int(raylet))
    code: object = 1
    try:
        if request.argv[0] == "-m":
            sys.argv = request.argv[1:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = request.argv
            runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
        raise
    finally:
        with suppress(OSError):  # a worker's has not waited
            asked.send(str(code if isinstance(code, int) else int(code is not None)).encode())


if __name__ == "__main__":
    del sys.path[0]  # the root folder, whose folders are nobody's modules
    added = _import(sys.argv[2:])
    _be(*_serve(socket.socket(fileno=int(sys.argv[1]))), added)
