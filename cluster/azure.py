"""Ray's own provider of Azure, called by way of ours: machines boot a script, and come all or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from azure.core.exceptions import AzureError
from ray.autoscaler._private._azure.node_provider import AzureNodeProvider

from cluster.arm_template import adapted
from cluster.noted import Noted

log = logging.getLogger(__name__)

_DELETE_SECONDS = 120.0


class Azure(Noted, AzureNodeProvider):
    """Starts and ends machines as Ray's own provider does; what came of a deployment that failed is deleted again."""

    resource_client: Any

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        """Make it from the `provider` of a cluster file."""
        super().__init__(provider_config, cluster_name)
        self.resource_client = _Resources(self.resource_client, self._delete)

    def _delete(self, group: str, given: Mapping[str, Any]) -> None:
        """Delete what there is of a deployment with these parameters: its machines, then what belongs to none."""
        network = self.network_client
        kinds: list[tuple[Any, str]] = [
            (self.compute_client.virtual_machines, ""),
            (network.network_interfaces, "-nic-public" if given["provisionPublicIp"] else "-nic"),
            (network.public_ip_addresses, "-ip"),
        ]
        for kind, suffix in kinds:
            names = [f"{given['vmName']}{suffix}{number}" for number in range(given["vmCount"])]
            # All at once; where there is none, that is no error.
            begun = [_tried(name, kind.begin_delete, group, name) for name in names]
            for name, one in zip(names, begun, strict=True):
                if one is not None:
                    _tried(name, one.wait, timeout=_DELETE_SECONDS)


def _tried(name: str, call: Callable[..., Any], *given: Any, **more: Any) -> Any:
    """Return what a call returns; None where Azure refuses, since the reason of the failed launch is what matters."""
    try:
        return call(*given, **more)
    except AzureError as error:
        log.warning("what a failed launch has left of %s could not be deleted: %s", name, error)
        return None


_Delete = Callable[[str, Mapping[str, Any]], None]


class _Resources:
    """Azure's resource client, whose deployments are adapted."""

    def __init__(self, client: Any, delete: _Delete) -> None:
        self._client = client
        self.deployments = _Deployments(client.deployments, delete)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _Deployments:
    def __init__(self, deployments: Any, delete: _Delete) -> None:
        self._deployments, self._delete = deployments, delete

    def begin_create_or_update(self, *, resource_group_name: str, parameters: dict[str, Any], **more: Any) -> Any:
        made = adapted(parameters)
        begun = self._deployments.begin_create_or_update(
            resource_group_name=resource_group_name, parameters=made, **more
        )
        given = {name: told["value"] for name, told in made["properties"]["parameters"].items()}
        return _Deployment(begun, lambda: self._delete(resource_group_name, given))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deployments, name)


class _Deployment:
    """One that is under way: where it fails, Azure leaves what it had made until then, and charges for it."""

    def __init__(self, begun: Any, delete: Callable[[], None]) -> None:
        self._begun, self._delete = begun, delete

    def wait(self, timeout: float | None = None) -> None:
        try:
            self._begun.wait(timeout=timeout)
        except AzureError:
            self._delete()
            raise
