"""The machines that Ray has now, in our words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state

from cluster.labels import GROUP_LABEL


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
    is_leaving: bool = False
    """It is being taken away, and gets no tasks any more."""


def list_machines() -> tuple[RayMachine, ...]:
    """Return the machines that are alive and belong to a group, by id."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no types here
    leaving = state.get_draining_nodes()
    found = [_machine(node, is_leaving=node["NodeID"] in leaving) for node in nodes]
    return tuple(sorted(filter(None, found), key=lambda m: m.id))


def _machine(node: dict[str, Any], *, is_leaving: bool) -> RayMachine | None:
    group = (node.get("Labels") or {}).get(GROUP_LABEL)
    if not node.get("Alive") or group is None:
        return None
    offered = node.get("Resources") or {}
    return RayMachine(
        id=node["NodeID"],
        name=node.get("NodeManagerHostname") or node["NodeID"][:12],
        group=group,
        cpus=float(offered.get("CPU", 0.0)),
        memory=int(offered.get("memory", 0)),
        gpus=int(offered.get("GPU", 0)),
        is_leaving=is_leaving,
    )
