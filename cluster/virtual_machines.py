"""The machines of a cluster on Azure, asked of its Resource Manager with Azure's own clients.

Ray's autoscaler tags what it launches with the cluster's name, the node type and whether it is a head or a worker. A
machine that has switched itself off is charged for as if it ran, until somebody deletes it: so it counts as running
here, and Ray does not know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from azure.core.exceptions import AzureError, ClientAuthenticationError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.models import VirtualMachine

from cluster.errors import ProviderFailed
from cluster.labels import CLUSTER_TAG, NODE_TYPE_TAG
from cluster.provider import Instance, kind_of

_SECONDS = 20
_RETRIES = 2
"""Of a request that Azure answers with an error of its own, each after some seconds."""


class AzureProvider:
    """The machines of a resource group that carry a cluster's name.

    A call ends within about a minute and a half, whatever the network does.
    """

    def __init__(self, cluster: str, subscription: str, resource_group: str) -> None:
        self._cluster, self._subscription, self._group = cluster, subscription, resource_group
        self._client: Any = None

    def list(self) -> tuple[Instance, ...]:
        """See Provider."""
        with _translated("list this cluster's machines"):
            found = self._machines().list(self._group)
            return tuple(_instance_of(one) for one in found if (one.tags or {}).get(CLUSTER_TAG) == self._cluster)

    def end(self, ids: Iterable[str]) -> None:
        """See Provider."""
        with _translated("end machines"):
            for one in ids:
                try:
                    # That it was heard is enough: whether it has ended tells the list. Disk and address go with it.
                    self._machines().begin_delete(self._group, one, polling=False)
                except ResourceNotFoundError:
                    continue

    def _machines(self) -> Any:
        if self._client is None:
            self._client = ComputeManagementClient(
                DefaultAzureCredential(),
                self._subscription,
                retry_total=_RETRIES,
                connection_timeout=_SECONDS,
                read_timeout=_SECONDS,
            )
        return self._client.virtual_machines


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (AzureError, OSError, KeyError, ValueError) as error:
        fix = "The head's identity must have the role Contributor of the resource group."
        if isinstance(error, ClientAuthenticationError):
            fix = "Give the head a managed identity; `az vm identity show` tells of it."
        raise ProviderFailed(f"Azure did not {what}: {_words(error)}", fix=fix) from error


def _words(error: Exception) -> str:
    """Return what Azure said without the lines that its clients add."""
    return str(getattr(error, "message", error)).partition("\n")[0]


def _instance_of(one: VirtualMachine) -> Instance:
    if one.time_created is None or one.name is None:
        raise ValueError(f"it does not say since when {one.name} is there")
    tags = one.tags or {}
    # The client has names of its own for the sizes that it knows.
    size = one.hardware_profile.vm_size if one.hardware_profile else ""
    return Instance(
        id=one.name,
        cluster=tags.get(CLUSTER_TAG, ""),
        kind=kind_of(tags),
        node_type=tags.get(NODE_TYPE_TAG, ""),
        machine_type=str(size.value if isinstance(size, Enum) else size),
        market="spot" if one.priority == "Spot" else "on-demand",
        zone=next(iter(one.zones or ()), one.location),
        launched_at=one.time_created,
        # Its interface would say it, in a request for each; a machine tells Ray its name here.
        address="",
        is_ending=one.provisioning_state == "Deleting",
        tags=tags,
    )
