"""Ray's own provider of EC2, as the autoscaler calls it by way of ours: failures are noted, and not repeated hotly."""

from __future__ import annotations

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

from cluster.noted import Noted


class Ec2(Noted, AWSNodeProvider):
    """Starts and ends instances as Ray's own provider does."""
