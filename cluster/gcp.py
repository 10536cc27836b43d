"""Ray's own provider of Google Cloud, as the autoscaler calls it by way of ours: failures are noted."""

from __future__ import annotations

import copy
from typing import Any

from ray.autoscaler._private.gcp.config import get_node_type
from ray.autoscaler._private.gcp.node import GCPNodeType, _generate_node_name
from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME

from cluster.noted import Noted

_POLLS = 60
"""How often, five seconds apart, it is asked whether several machines have been started."""


class _AtOnce(GCPNodeProvider):
    """Ray's provider, which starts machines for several callers at a time, and several for one as a whole.

    Ray's own holds a lock until Google has started a machine, for seconds: a hundred would take many minutes.
    """

    def create_node(self, base_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Return what Google says of the machines that it has started, by their names."""
        kind = get_node_type(base_config)
        if kind is not GCPNodeType.COMPUTE:
            made: dict[str, Any] = super().create_node(base_config, tags, count)
            return made
        # Without a lock: each of its requests has a connection of its own.
        compute = self.resources[kind]
        if count == 1:
            result, name = compute.create_instance(base_config, tags)
            return {name: result}
        names = [_generate_node_name(tags, kind.value) for _ in range(count)]
        labels = dict(base_config.get("labels") or {}) | tags | {TAG_RAY_CLUSTER_NAME: self.cluster_name}
        body = {
            "count": str(count),
            "minCount": str(count),
            "instanceProperties": _properties(base_config) | {"labels": labels},
            "perInstanceProperties": {name: {} for name in names},
        }
        request = compute.resource.instances().bulkInsert(
            project=compute.project_id, zone=compute.availability_zone, body=body
        )
        operation = request.execute(http=compute.get_new_authorized_http(compute.resource._http))
        result = compute.wait_for_operation(operation, max_polls=_POLLS)
        return dict.fromkeys(names, result)


def _properties(config: dict[str, Any]) -> dict[str, Any]:
    """Return a node's configuration with mere names of types, where `instances.insert` has them as URLs."""
    made = copy.deepcopy({name: value for name, value in config.items() if name != "networkConfig"})
    made["machineType"] = made["machineType"].rpartition("/")[2]
    for disk in made.get("disks", ()):
        if (kind := disk.get("initializeParams", {}).get("diskType")) is not None:
            disk["initializeParams"]["diskType"] = kind.rpartition("/")[2]
    for one in made.get("guestAccelerators", ()):
        one["acceleratorType"] = one["acceleratorType"].rpartition("/")[2]
    return made


class Gcp(Noted, _AtOnce):
    """Starts and ends instances as Ray's own provider does; a request for several gives all of them or none."""
