"""Machines asked for as version 2 of Ray's autoscaler does, and our own provider of the same cloud."""

from __future__ import annotations

from typing import Any

from cluster.provider import Provider, provider_of


def launch(ray: Any, told: dict[str, Any], node_type: str, count: int = 1, request: str = "1") -> Any:
    """Ask Ray's provider for machines of a node type of the autoscaler's file, and return what it says."""
    kind = "head" if node_type == told["head_node_type"] else "worker"
    tags = {
        "ray-node-name": f"ray-{told['cluster_name']}-{kind}",
        "ray-node-type": kind,
        "ray-node-status": "uninitialized",
        "ray-user-node-type": node_type,
        "ray-launch-request": request,
    }
    return ray.create_node(told["available_node_types"][node_type]["node_config"], tags, count)


def ours(told: dict[str, Any]) -> Provider:
    """Return our provider of the file's cloud."""
    found = provider_of(told)
    assert found is not None
    return found
