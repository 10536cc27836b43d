"""The machines that Ray knows, by the ids that their cloud gave them."""

from __future__ import annotations

from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray has no types here
from ray.core.generated import autoscaler_pb2

from cluster.errors import RaySilent
from cluster.reconciler import Members

_SECONDS = 10.0
_HEAD = "node:__internal_head__"
"""The resource by which Ray marks its head."""


def list_members(gcs_address: str) -> Members:
    """Return the machines that are alive, those that are being drained among them.

    A machine says its cloud's id when it joins: `cluster.join` gives it to Ray as RAY_CLOUD_INSTANCE_ID.

    Raises:
        RaySilent: the head does not answer within seconds, or does not tell of itself.
    """
    reply = autoscaler_pb2.GetClusterResourceStateReply()  # type: ignore[attr-defined]  # likewise
    try:
        reply.ParseFromString(GcsClient(address=gcs_address).get_cluster_resource_state(timeout_s=_SECONDS))
    except Exception as error:  # Ray raises whatever its C++ does
        raise RaySilent(f"Ray's head does not say which machines it has: {error}") from error
    dead = autoscaler_pb2.NodeStatus.DEAD  # type: ignore[attr-defined]  # likewise
    alive = [node for node in reply.cluster_resource_state.node_states if node.status != dead]
    heads = [node.node_id.hex() for node in alive if _HEAD in node.total_resources]
    if len(heads) != 1:
        raise RaySilent(f"Ray tells of {len(heads)} heads.")
    return Members(
        head=heads[0],
        instances=frozenset(node.instance_id for node in alive if node.instance_id),
        addresses=frozenset(node.node_ip_address for node in alive if node.node_ip_address),
    )
