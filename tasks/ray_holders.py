"""The Simulator actors of a Ray cluster, as the dispatcher's core sees them."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.machines import departed_machines, list_machines
from simulators.actor import ActorState, Simulator
from simulators.errors import MachineLost
from simulators.work import Superseded, Work
from tasks.holders import Broken, Gone, HolderState, Left, OnLeft, Unreachable
from tasks.placement import Host, Kind
from tasks.reporting import NAMESPACE, DispatcherReporter

log = logging.getLogger(__name__)

_PREFIX = "sim-"
_ASK_SECONDS = 15.0
_TELLERS = 8
_LEFT_SECONDS = 60.0
"""For how long a machine is told of that was taken away and has left."""


class RayHolders:
    """The Holders of a cluster: detached actors with names, so that the next dispatcher finds them.

    Args:
        woken: called after each `left` that was news: what it has changed is worth a look.
    """

    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._reporter = DispatcherReporter()
        self._handles: dict[str, Any] = {}
        self._seen: dict[str, float] = {}
        """When each machine was last seen alive."""
        self._tellers = ThreadPoolExecutor(_TELLERS, thread_name_prefix="left")

    def machines(self) -> tuple[Host, ...]:
        """See Holders."""
        found, now = list_machines(), time.monotonic()
        alive = {machine.id: now for machine in found if machine.is_alive}
        # A drained machine may be gone before anybody has seen that it was leaving.
        self._seen = {name: at for name, at in self._seen.items() if now - at < _LEFT_SECONDS} | alive
        return tuple(
            Host(
                id=m.id,
                name=m.name,
                group=m.group,
                cpus=m.cpus,
                memory=m.memory,
                gpus=m.gpus,
                node_type=m.node_type,
                disk=m.disk,
                is_leaving=m.is_leaving,
            )
            for m in found
            if m.id in self._seen
        )

    def departed(self) -> frozenset[str]:
        """See Holders."""
        return departed_machines()

    def start(self, kind: Kind, host: str) -> str:
        """See Holders."""
        name = f"{_PREFIX}{uuid.uuid4().hex[:12]}"
        need = kind.resources
        self._handles[name] = Simulator.options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            memory=need.memory,
            scheduling_strategy=NodeAffinitySchedulingStrategy(host, soft=False),
        ).remote(kind.simulator, kind.version, kind.runtime, need)
        return name

    def hand_over(self, name: str, work: Work, left: OnLeft) -> None:
        """See Holders."""
        handle = self._handles.get(name)
        if handle is None:
            left(Gone())
        else:
            self._follow(name, handle.carry.remote(work, self._reporter), left)

    def adopt(self, name: str, work: Work, left: OnLeft) -> None:
        """See Holders."""
        handle = self._handles.get(name)
        if handle is None:
            left(Gone())
        else:
            self._follow(name, handle.adopt.remote(work, self._reporter), left)

    def watch(self, name: str, task: str, attempt: int, left: OnLeft) -> None:
        """See Holders."""
        handle = self._handles.get(name)
        if handle is None:
            left(Gone())
        else:
            self._follow(name, handle.watch.remote(task, attempt), left)

    def cancel(self, name: str, task: str, attempt: int) -> None:
        """See Holders."""
        handle = self._handles.get(name)
        if handle is not None:
            handle.cancel.remote(task, attempt)

    def end(self, name: str) -> None:
        """See Holders."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            ray.kill(handle)

    def ask(self) -> Mapping[str, HolderState | None]:
        """See Holders."""
        calls: dict[str, tuple[Any, Any]] = {}
        for item in ray.util.list_named_actors(all_namespaces=True):
            name = item["name"]
            if item["namespace"] != NAMESPACE or not name.startswith(_PREFIX):
                continue
            try:
                handle = ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:
                continue
            calls[name] = (handle, handle.state.remote())
        if calls:
            ray.wait([call for _, call in calls.values()], num_returns=len(calls), timeout=_ASK_SECONDS)
        states: dict[str, HolderState | None] = {}
        for name, (handle, call) in calls.items():
            try:
                state: ActorState = ray.get(call, timeout=0.1)
            except ActorDiedError:
                continue
            except Exception as error:  # noqa: BLE001 - slow, frozen or of an older release
                log.warning("the Simulator actor %s does not answer: %r", name, error)
                self._handles[name], states[name] = handle, None
                continue
            if state.resources is None:
                continue
            kind = Kind(
                simulator=state.simulator, version=state.version, runtime=state.runtime, resources=state.resources
            )
            self._handles[name] = handle
            states[name] = HolderState(host=state.node, kind=kind, carries=state.current, others=state.others)
        return states

    def _follow(self, name: str, call: Any, left: OnLeft) -> None:
        def tell(why: Left) -> None:
            if isinstance(why, Gone):
                self._handles.pop(name, None)
            if left(why):
                self._woken()

        def done(future: Future[Any]) -> None:
            # In a thread of Ray's, which must be free again before anything can be asked of Ray.
            self._tellers.submit(tell, left_by(future.exception()))

        call.future().add_done_callback(done)


def left_by(error: BaseException | None) -> Left:
    """Return what the error of a call that lasts as long as an attempt says of the attempt."""
    match error:
        case None:
            return None
        case RayTaskError(cause=Superseded()):
            return None
        case RayTaskError(cause=MachineLost() as lost):
            return Broken(str(lost), machine=lost.machine)
        case RayTaskError():
            return Broken(repr(error.cause))
        case ActorUnavailableError():
            return Unreachable()
        case _:
            # Not only ActorDiedError: an actor whose machine went before it was placed is unschedulable.
            return Gone()
