"""Ray's own provider of Azure, as the autoscaler calls it by way of ours: machines boot a script."""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private._azure.node_provider import AzureNodeProvider

from cluster.arm_template import with_custom_data
from cluster.noted import Noted


class Azure(Noted, AzureNodeProvider):
    """Starts and ends machines as Ray's own provider does."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        """Make it from the `provider` of a cluster file."""
        super().__init__(provider_config, cluster_name)
        self.resource_client = _Resources(self.resource_client)


class _Resources:
    """Azure's resource client, whose deployments have the boot script."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.deployments = _Deployments(client.deployments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _Deployments:
    def __init__(self, deployments: Any) -> None:
        self._deployments = deployments

    def begin_create_or_update(self, *, parameters: dict[str, Any], **more: Any) -> Any:
        return self._deployments.begin_create_or_update(parameters=with_custom_data(parameters), **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deployments, name)
