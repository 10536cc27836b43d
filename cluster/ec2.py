"""Ray's own provider of EC2, as the autoscaler calls it by way of ours: failures are noted, and not repeated hotly."""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

from cluster.noted import Noted


class Ec2(Noted, AWSNodeProvider):
    """Starts and ends instances as Ray's own provider does; a request for several gives all of them or none."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        """Make it from the `provider` of a cluster file."""
        super().__init__(provider_config, cluster_name)
        self.ec2_fail_fast = _AllOrNone(self.ec2_fail_fast)


class _AllOrNone:
    """EC2, which by Ray's own provider would be asked for one machine or as many more as it has."""

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)

    def create_instances(self, **request: Any) -> Any:
        return self._ec2.create_instances(**request | {"MinCount": request["MaxCount"]})
