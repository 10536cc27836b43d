"""The Simulator actor: a simulator bound to a container runtime on one machine.

Use without the queue::

    simulator = Simulator.options(num_cpus=2).remote("calculix")
    result = ray.get(simulator.run.remote(input="beam/", parameters={"job": "beam"}, output="results/"))
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from simulators import catalogue
from simulators.attempt import AttemptRun
from simulators.companions import Companions
from simulators.direct import RunResult, run_directly
from simulators.execution import Execution
from simulators.runtimes import LAUNCHER, runtime_of
from simulators.scratch import sweep
from simulators.staging import kept_inputs
from simulators.work import Reporter, Superseded, Work
from simyard.checkpoint import Snapshot
from simyard.event import LogStream, Sample
from simyard.resources import Limits, Resources
from simyard.simulator import Command, RuntimeName
from simyard.task import Value
from storage.objects import ObjectStore, open_store
from storage.rooms import check_rooms
from storage.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from storage.kept_inputs import KeptInputs

log = logging.getLogger(__name__)

_NOTICE_SECONDS = 20.0
"""How long an actor that was told to end waits for a last snapshot; who sent the signal may be quicker."""


@dataclass(frozen=True, kw_only=True)
class ActorState:
    """What an actor says of itself, so that a new dispatcher can take it over."""

    simulator: str
    version: str
    runtime: RuntimeName
    resources: Resources | None
    node: str
    """Ray's id of the machine."""
    current: tuple[str, int] | None
    """Task and attempt that it carries."""
    others: tuple[str, ...] = ()
    """Ray's ids of the other machines on which that runs."""


class SimulatorActor:
    """A simulator on this machine; it carries one run at a time and answers questions meanwhile.

    Args:
        simulator: a name of the catalogue.
        version: a version of it; the newest by default.
        runtime: the engine to run it in; the first one that the version has and this machine can use by default.
        resources: what a run may take. By default the cores and GPUs that Ray gave this actor, and Ray's memory
            where it was asked for.

    Raises:
        InvalidInput: there is no such simulator, version or runtime.
    """

    def __init__(
        self,
        simulator: str,
        version: str | None = None,
        runtime: str | None = None,
        resources: Resources | None = None,
    ) -> None:
        check_rooms()
        self._spec = catalogue.find(simulator)
        wanted = RuntimeName(runtime) if runtime else None
        self._version, self._runtime_name = catalogue.resolve(self._spec, version, wanted)
        self._runtime = runtime_of(self._runtime_name)
        context = ray.get_runtime_context()
        self._node = context.get_node_id()
        self._resources = resources
        self._assigned = _assigned(context.get_assigned_resources())  # type: ignore[no-untyped-call]  # Ray's
        self._gpu_ids = tuple(str(gpu) for gpu in ray.get_gpu_ids())
        self._kept: KeptInputs | None = None
        self._carries: tuple[str, int] | None = None
        self._current: AttemptRun | None = None
        self._stores: dict[str, ObjectStore] = {}
        """By URI; a server has one."""
        # What died on this machine may still compute, and nobody may take its results.
        sweep(load_settings().scratch)
        self._lock = threading.Lock()
        self._done = threading.Condition(self._lock)
        self._heed_notice()
        LAUNCHER.warm_up()
        # What is loaded by now stays: looking through it for garbage again and again would cost each short run.
        gc.freeze()

    @ray.method(concurrency_group="run")  # type: ignore[arg-type]  # Ray's type knows positional arguments only
    def run(
        self,
        *,
        input: str,  # noqa: A002 - the word that users know
        output: str,
        parameters: Mapping[str, Value] | None = None,
        commands: Sequence[Command] = (),
        limits: Limits | None = None,
    ) -> RunResult:
        """Run the simulator over a folder or a storage URI, and return how it ended and where its outputs are.

        Args:
            input: a folder on this machine, or a storage URI (`file://`, `s3://bucket/prefix`) whose objects are taken.
            output: a folder, which gets the plain files, or a storage URI, which gets packs and a manifest.
            parameters: the simulator's parameters.
            commands: commands to run instead of those that the parameters build.
            limits: time limits.

        Raises:
            InvalidInput: an argument is not valid; nothing was run.
        """
        return run_directly(
            self._spec,
            self._version,
            self._runtime,
            source=input,
            target=output,
            parameters=dict(parameters or {}),
            commands=tuple(commands),
            resources=self._resources or self._assigned,
            limits=limits or Limits(),
            gpu_ids=self._gpu_ids,
        )

    @ray.method(concurrency_group="run")
    def carry(self, work: Work, reporter: Reporter) -> None:
        """Carry an attempt of the queue to its end; it is reported when this returns.

        Raises:
            Superseded: the attempt was not the current one any more.
        """
        with self._carrying(work):
            # An earlier attempt at the task that still runs here has lost its place.
            sweep(load_settings().scratch, prefix=f"simyard-{work.task}-", current=())
            self._begin(work, reporter).carry()

    @ray.method(concurrency_group="run")
    def adopt(self, work: Work, reporter: Reporter) -> None:
        """Carry an attempt whose process on this machine has died to its end; it is reported when this returns.

        Raises:
            NotAdoptable: its run is not here, or too little is left of it; what there is has been ended.
            Superseded: the attempt was not the current one any more.
        """
        with self._carrying(work):
            self._begin(work, reporter, adopting=True).adopt()

    def _begin(self, work: Work, reporter: Reporter, *, adopting: bool = False) -> AttemptRun:
        settings = load_settings()
        if self._kept is None:
            self._kept = kept_inputs(work.storage)
        kept = self._kept
        execution = Execution(
            box=work.box,
            root=settings.scratch / work.box,
            spec=self._spec,
            version=self._version,
            runtime=self._runtime,
            resources=work.resources,
            limits=work.limits,
            gpu_ids=self._gpu_ids,
            adopting=adopting,
            make_room=(lambda: None) if kept is None else kept.give_way,
        )
        if work.storage not in self._stores:
            self._stores[work.storage] = open_store(work.storage)
        store = self._stores[work.storage]
        companions = Companions(work, execution) if work.others else None
        attempt = AttemptRun(work, execution, store, reporter, settings.lease_seconds, kept, companions)
        with self._lock:
            self._current = attempt
        return attempt

    @contextmanager
    def _carrying(self, work: Work) -> Iterator[None]:
        """Say of this actor that it carries the attempt, also while it cannot be looked at yet."""
        with self._lock:
            self._carries = (work.task, work.attempt)
        try:
            yield
        finally:
            with self._done:
                self._carries = self._current = None
                self._done.notify_all()

    @ray.method(concurrency_group="watch")
    def watch(self, task: str, attempt: int) -> None:
        """Return when the attempt is not carried here any more."""
        with self._done:
            self._done.wait_for(lambda: self._carries != (task, attempt))

    @ray.method(concurrency_group="control")
    def state(self) -> ActorState:
        """Return what this actor is and carries."""
        with self._lock:
            current = self._carries
            others = () if self._current is None else self._current.work.others
        return ActorState(
            simulator=self._spec.name,
            version=self._version.version,
            runtime=self._runtime_name,
            resources=self._resources,
            node=self._node,
            current=current,
            others=tuple(one.node for one in others),
        )

    @ray.method(concurrency_group="control")
    def cancel(self, task: str, attempt: int) -> bool:
        """End an attempt; says whether it is carried here."""
        try:
            self._get(task, attempt).cancel()
        except Superseded:
            return False
        return True

    @ray.method(concurrency_group="look")
    def read_log(
        self, task: str, attempt: int, stream: LogStream, offset: int, limit: int, wait: float
    ) -> tuple[bytes, bool]:
        """Return up to `limit` bytes of a log from `offset`, and whether nothing follows; waits for the first byte."""
        with self._get(task, attempt).look() as execution:
            return execution.read_log(stream, offset, limit, wait)

    @ray.method(concurrency_group="look")
    def list_files(self, task: str, attempt: int) -> list[tuple[str, int, int]]:
        """Return path, size and mtime in nanoseconds of the files in the task's folder now."""
        with self._get(task, attempt).look() as execution:
            return execution.list_files()

    @ray.method(concurrency_group="look")
    def read_file(self, task: str, attempt: int, path: str, offset: int, limit: int) -> bytes:
        """Return up to `limit` bytes of a file in the task's folder."""
        with self._get(task, attempt).look() as execution:
            return execution.read_file(path, offset, limit)

    @ray.method(concurrency_group="look")
    def samples(self, task: str, attempt: int) -> list[Sample]:
        """Return what the simulation used so far."""
        with self._get(task, attempt).look() as execution:
            return execution.samples()

    @ray.method(concurrency_group="look")
    def checkpoint(self, task: str, attempt: int, patience: float) -> Snapshot:
        """Return a snapshot of the attempt's restart files as they are now, within `patience` seconds."""
        return self._get(task, attempt).checkpoint(patience)

    def _heed_notice(self) -> None:
        """On SIGTERM, by which a machine that is taken away tells its processes, take a last snapshot and end.

        Ray itself would wait for the end of what runs. The run goes on without this process: the dispatcher sees at
        once that it has gone, and lets another one take over where the machine is still there.
        """

        def snap() -> None:
            with self._lock:
                current = self._current
            if current is not None:
                current.take_last_snapshot(_NOTICE_SECONDS)

        def heed(number: int, frame: FrameType | None) -> None:
            # The thread that is interrupted here may hold the lock.
            last = threading.Thread(target=snap, name="last snapshot", daemon=True)
            last.start()
            last.join(_NOTICE_SECONDS)
            if self._carries is None and callable(before):
                before(number, frame)
            else:
                os._exit(1)

        try:
            before = signal.signal(signal.SIGTERM, heed)
        except ValueError:  # not in the main thread, where Ray makes actors
            log.warning("this actor takes no snapshot when its machine is taken away")

    def _get(self, task: str, attempt: int) -> AttemptRun:
        with self._lock:
            current = self._current
        if current is None or (current.work.task, current.work.attempt) != (task, attempt):
            raise Superseded(f"Attempt {attempt} of task {task} is not carried here.")
        return current


def _assigned(given: dict[str, Any]) -> Resources:
    """Return the resources that Ray gave this actor, as limits of a run."""
    cpus = float(given.get("CPU") or 1.0)
    memory = int(given.get("memory") or 0)
    return Resources(cpus=cpus, gpus=int(given.get("GPU") or 0), **({"memory": memory} if memory else {}))


# Ray's own retries stay off: an attempt is made by the queue, or by whoever calls directly.
Simulator: Any = ray.remote(  # type: ignore[call-overload]  # Ray's type does not know concurrency groups
    max_restarts=0,
    max_task_retries=0,
    concurrency_groups={"run": 1, "control": 2, "look": 16, "watch": 2},
)(SimulatorActor)
"""The actor's class for Ray: `Simulator.options(num_cpus=2).remote("calculix")`."""

__all__ = ["ActorState", "Simulator", "SimulatorActor"]
