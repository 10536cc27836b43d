"""Ray's own provider of Google Cloud, as the autoscaler calls it by way of ours: failures are noted."""

from __future__ import annotations

from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

from cluster.noted import Noted


class Gcp(Noted, GCPNodeProvider):
    """Starts and ends instances as Ray's own provider does."""
