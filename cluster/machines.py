"""The machines that Ray has now, in our words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state

from cluster.labels import DISK_LABEL, GROUP_LABEL, MACHINE_LABEL

_NODE_TYPE = "ray.io/node-group"
"""The label that Ray gives a machine of itself."""
_PREEMPTED = 3
"""What Ray says of a node's death that was drained since its machine is taken away (NodeDeathInfo.Reason)."""


@dataclass(frozen=True, kw_only=True)
class RayMachine:
    """A Ray node that is alive, and all that it offers to tasks."""

    id: str
    name: str
    group: str
    cpus: float
    memory: int
    """Bytes."""
    gpus: int
    node_type: str = ""
    """Of the cluster file; empty where it is in none."""
    disk: float = math.inf
    """Bytes that tasks may reserve together; infinite where the machine has not said."""
    is_leaving: bool = False
    """It is being taken away, and gets no tasks any more."""
    is_alive: bool = True
    """False for one that was taken away and has left."""


def list_machines() -> tuple[RayMachine, ...]:
    """Return the machines that belong to a group, by id: those that are alive, and those that were taken away."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    leaving = state.get_draining_nodes()
    found = [_machine(node, is_leaving=node["NodeID"] in leaving) for node in nodes]
    return tuple(sorted(filter(None, found), key=lambda m: m.id))


def departed_machines() -> frozenset[str]:
    """Return the names of the machines that Ray knows to have died; a head that is new knows of none."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    alive = {_name(node) for node in nodes if node.get("Alive")}
    dead = {_name(node) for node in nodes if not node.get("Alive")}
    return frozenset(dead - alive)


def _name(node: dict[str, Any]) -> str:
    """Return what a machine is called, which is the same whenever it starts anew."""
    labels = node.get("Labels") or {}
    return str(labels.get(MACHINE_LABEL) or node.get("NodeManagerHostname") or node["NodeID"][:12])


def _machine(node: dict[str, Any], *, is_leaving: bool) -> RayMachine | None:
    labels = node.get("Labels") or {}
    group = labels.get(GROUP_LABEL)
    is_alive = bool(node.get("Alive"))
    was_taken = not is_alive and node.get("DeathReason") == _PREEMPTED
    if group is None or not (is_alive or was_taken):
        return None
    offered = node.get("Resources") or {}
    return RayMachine(
        id=node["NodeID"],
        name=_name(node),
        group=group,
        cpus=float(offered.get("CPU", 0.0)),
        memory=int(offered.get("memory", 0)),
        gpus=int(offered.get("GPU", 0)),
        node_type=labels.get(_NODE_TYPE, ""),
        disk=int(said) if (said := labels.get(DISK_LABEL)) else math.inf,
        is_leaving=is_leaving or was_taken,
        is_alive=is_alive,
    )
