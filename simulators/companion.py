"""The part of a task over several machines that is on another machine than its first one: a container kept open there.

It has the same inputs, image and resources, and runs what the first machine's programs launch. It ends with the actor
that carries the attempt, however that ends.
"""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray

from simulators import catalogue
from simulators.errors import ImageError, Stopped
from simulators.execution import Execution
from simulators.runtimes import LAUNCHER, Exit, runtime_of
from simulators.scratch import sweep
from simulators.span import WHERE, Span
from simulators.staging import bring_inputs, kept_inputs
from simulators.work import Work
from simyard.resources import Limits
from simyard.simulator import Command
from storage.folder import Folder
from storage.objects import open_store
from storage.rooms import check_rooms
from storage.settings import load_settings
from storage.stamps import Stamps, take_stamps

KEEPER = ("sleep", "2147483647")
"""What keeps a container open."""
OPEN_SECONDS = 120.0
"""How long a container may take to start once its image is there."""
CLOSE_SECONDS = 60.0
"""How long the end of a container is waited for; its supervisor ends it all the same."""
_TICK = 0.2
_PIECE = 256 * 1024
_FILE_PIECE = 8 * 1024**2
_PARALLEL = 64


@dataclass(frozen=True)
class Piece:
    """What a launched command has printed since it was asked last, and its exit status once it has ended."""

    out: bytes
    err: bytes
    status: int | None


class _Launched:
    """A command that runs in the container."""

    def __init__(self, process: subprocess.Popen[bytes], out: Any, err: Any) -> None:
        self._process, self._streams = process, (out, err)

    def follow(self, wait: float) -> Piece:
        """Return what it printed since, as soon as it has ended and at the latest after `wait` seconds."""
        try:
            status: int | None = self._process.wait(wait)
        except subprocess.TimeoutExpired:
            status = None
        out, err = (stream.read(_PIECE) for stream in self._streams)
        if len(out) == _PIECE or len(err) == _PIECE:
            status = None  # there is more
        if status is not None:
            for stream in self._streams:
                stream.close()
            # As shells do.
            status = 128 - status if status < 0 else status
        return Piece(out, err, status)


class CompanionActor:
    """One attempt's container on this machine.

    Args:
        work: the attempt.
        number: which of its machines this is, counted from the first one, which has 0.
    """

    def __init__(self, work: Work, number: int) -> None:
        check_rooms()
        self._work, self._number = work, number
        self._execution: Execution | None = None
        self._before = Stamps({})
        self._stop = threading.Event()
        self._over = threading.Event()
        self._end: Exit | Exception | None = None
        self._thread: threading.Thread | None = None
        self._launched: dict[str, _Launched] = {}
        self._gpu_ids = tuple(str(gpu) for gpu in ray.get_gpu_ids())
        sweep(load_settings().scratch)
        LAUNCHER.warm_up()

    @ray.method(concurrency_group="control")
    def address(self) -> str:
        """Return this machine's address in the network of the cluster."""
        return own_address()

    @ray.method(concurrency_group="begin")
    def begin(self, addresses: dict[str, str], hosts: dict[str, str]) -> None:
        """Bring the inputs and open the container; returns once commands can be launched there.

        Raises:
            ImageError: the environment or the container could not be made.
            Stopped: it was ended meanwhile.
            SimyardError: the inputs could not be brought.
        """
        work, settings = self._work, load_settings()
        box = f"{work.box}-on-{self._number}"
        spec = catalogue.find(work.simulator)
        version, runtime = catalogue.resolve(spec, work.version, work.runtime)
        # An earlier attempt at the task that still runs here has lost its place.
        sweep(settings.scratch, prefix=f"simyard-{work.task}-", current=())
        kept = kept_inputs(work.storage)
        self._execution = execution = Execution(
            box=box,
            root=settings.scratch / box,
            spec=spec,
            version=version,
            runtime=runtime_of(runtime),
            resources=work.resources,
            # The first machine holds the task to its limits in time.
            limits=Limits(),
            gpu_ids=self._gpu_ids,
            make_room=(lambda: None) if kept is None else kept.give_way,
        )
        bring_inputs(open_store(work.storage), work, execution.folder, kept, self._stop.is_set)
        self._before = take_stamps(execution.folder)
        span = execution.span(addresses, hosts)
        self._thread = threading.Thread(target=self._run, args=(execution, span), name="companion", daemon=True)
        self._thread.start()
        self._wait_until_open(execution)

    def _run(self, execution: Execution, span: Span) -> None:
        try:
            self._end = execution.run((Command(argv=KEEPER),), given_up=self._stop.is_set, span=span)
        except Exception as error:  # noqa: BLE001 - whoever watches raises it again
            self._end = error
        finally:
            self._over.set()

    def _wait_until_open(self, execution: Execution) -> None:
        # An image may have to be made first: only then its time counts.
        deadline = None
        while not execution.is_open():
            if self._stop.is_set():
                raise Stopped
            if self._over.wait(_TICK):
                self._raise_end()
            if deadline is None and execution.has_begun:
                deadline = time.monotonic() + OPEN_SECONDS
            if deadline is not None and time.monotonic() >= deadline:
                raise ImageError(f"Its container did not start within {OPEN_SECONDS:g} s.")

    def _raise_end(self) -> None:
        if isinstance(self._end, Exception):
            raise self._end
        told = "" if self._end is None else self._end.message or self._end.why
        raise ImageError(f"Its container ended as soon as it was made: {told}")

    @ray.method(concurrency_group="watch")
    def watch(self) -> Exit:
        """Return how the container ended, once it has.

        Raises:
            SupervisorLost: nobody knows how it ended.
        """
        self._over.wait()
        if isinstance(self._end, Exit):
            return self._end
        raise self._end or Stopped()

    @ray.method(concurrency_group="calls")
    def launch(self, call: str, script: str) -> None:
        """Let a shell in the container run a script; `call` is its name from now on."""
        if self._execution is None or len(self._launched) >= _PARALLEL:
            raise ImageError(f"No more than {_PARALLEL} commands can be launched on a machine at a time.")
        Folder(self._execution.span_folder).write(f"{call}.sh", [script.encode(errors="surrogateescape")], mode=0o600)
        argv, environment = self._execution.inside("sh", f"{WHERE}/{call}.sh")
        paths = [self._execution.control / f"{call}.{kind}" for kind in ("out", "err")]
        with paths[0].open("wb") as out, paths[1].open("wb") as err:
            process = subprocess.Popen(
                argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        self._launched[call] = _Launched(process, *(path.open("rb") for path in paths))
        for path in paths:
            path.unlink()

    @ray.method(concurrency_group="calls")
    def follow(self, call: str, wait: float) -> Piece:
        """Return what a launched command has printed since, and its exit status once it has ended."""
        piece = self._launched[call].follow(wait)
        if piece.status is not None:
            del self._launched[call]
        return piece

    @ray.method(concurrency_group="control")
    def close(self) -> list[tuple[str, int]]:
        """End the container, and return the paths and sizes of the files that were made or changed here."""
        self._stop.set()
        execution = self._execution
        if execution is None or self._thread is None:
            return []
        execution.stop()
        self._over.wait(CLOSE_SECONDS)
        return [
            (found.path, found.stat.st_size)
            for found in Folder(execution.folder).walk()
            if found.stat is not None and stat.S_ISREG(found.stat.st_mode) and not self._before.has(found)
        ]

    @ray.method(concurrency_group="control")
    def read(self, path: str, offset: int) -> tuple[bytes, int]:
        """Return the next bytes of a file that was made here, none at its end, and its mode."""
        assert self._execution is not None, "only what has begun has files"
        with os.fdopen(Folder(self._execution.folder).open(path), "rb") as file:
            file.seek(offset)
            return file.read(_FILE_PIECE), os.fstat(file.fileno()).st_mode

    @ray.method(concurrency_group="control")
    def remove(self) -> None:
        """Leave nothing here."""
        self._stop.set()
        if self._execution is not None:
            self._execution.stop()
            if self._thread is not None:
                self._over.wait(CLOSE_SECONDS)
            self._execution.remove()


def own_address() -> str:
    """Return the address of this machine in the network of the cluster."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]  # Ray's


Companion: Any = ray.remote(  # type: ignore[call-overload]  # Ray's type does not know concurrency groups
    max_restarts=0,
    max_task_retries=0,
    concurrency_groups={"begin": 1, "control": 4, "watch": 1, "calls": 64},
)(CompanionActor)
"""The actor's class for Ray."""
