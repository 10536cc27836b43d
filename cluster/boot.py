"""What a node type of a cluster file says in the words of its cloud: machine type, market, and the boot script.

Ray passes a node type's `node_config` on to the cloud as it is, so each cloud's has other fields. A cloud is one class
here and one line in the register; what a machine hears of it is a file in `cluster.clouds`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, Protocol

from cluster.disk import offered_disk
from simyard.errors import InvalidInput
from simyard.group import Market
from simyard.resources import GIB

Config = Mapping[str, Any]
"""A node type's `node_config`."""


class NodeConfig(Protocol):
    """The `node_config` of a cloud."""

    def machine_type(self, config: Config) -> str:
        """Return what the cloud calls the machine type; empty where the configuration does not say it."""
        ...

    def market(self, config: Config) -> Market:
        """Say whether the machine may be taken away."""
        ...

    def disk(self, config: Config) -> float:
        """Return the bytes that a machine can offer of the disk ordered for it; infinite where none is named."""
        ...

    def with_script(self, config: Config, script: str) -> dict[str, Any]:
        """Return the configuration of machines that run a script, and no other, when they boot."""
        ...


class Aws:
    """Arguments of EC2's RunInstances."""

    def machine_type(self, config: Config) -> str:
        """See NodeConfig."""
        return str(config.get("InstanceType", ""))

    def market(self, config: Config) -> Market:
        """See NodeConfig."""
        options = config.get("InstanceMarketOptions") or {}
        return Market.SPOT if options.get("MarketType") == "spot" else Market.ON_DEMAND

    def disk(self, config: Config) -> float:
        """See NodeConfig."""
        mappings = config.get("BlockDeviceMappings") or [{}]
        return _offered((mappings[0].get("Ebs") or {}).get("VolumeSize"))

    def with_script(self, config: Config, script: str) -> dict[str, Any]:
        """See NodeConfig."""
        return dict(config) | {"UserData": script}


class Gcp:
    """The body of Compute Engine's instances.insert."""

    def machine_type(self, config: Config) -> str:
        """See NodeConfig."""
        # It may be a path that ends in the name.
        return str(config.get("machineType", "")).rpartition("/")[2]

    def market(self, config: Config) -> Market:
        """See NodeConfig."""
        scheduling = config.get("scheduling") or {}
        is_spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible") is True
        return Market.SPOT if is_spot else Market.ON_DEMAND

    def disk(self, config: Config) -> float:
        """See NodeConfig."""
        disks = config.get("disks") or [{}]
        return _offered((disks[0].get("initializeParams") or {}).get("diskSizeGb"))

    def with_script(self, config: Config, script: str) -> dict[str, Any]:
        """See NodeConfig."""
        metadata = dict(config.get("metadata") or {})
        kept = [item for item in metadata.get("items") or () if item.get("key") != "startup-script"]
        return dict(config) | {"metadata": metadata | {"items": [*kept, {"key": "startup-script", "value": script}]}}


class Azure:
    """Parameters of the template by which Ray's provider deploys a machine; ours has `customData` as well."""

    def machine_type(self, config: Config) -> str:
        """See NodeConfig."""
        return str(config["azure_arm_parameters"].get("vmSize", ""))

    def market(self, config: Config) -> Market:
        """See NodeConfig."""
        return Market.SPOT if config["azure_arm_parameters"].get("priority") == "Spot" else Market.ON_DEMAND

    def disk(self, config: Config) -> float:
        """See NodeConfig."""
        return _offered(config["azure_arm_parameters"].get("osDiskSizeGb"))

    def with_script(self, config: Config, script: str) -> dict[str, Any]:
        """See NodeConfig."""
        encoded = base64.b64encode(script.encode()).decode()
        parameters = dict(config["azure_arm_parameters"]) | {"customData": encoded}
        return dict(config) | {"azure_arm_parameters": parameters}


def _offered(ordered_gib: object) -> float:
    return math.inf if ordered_gib is None else offered_disk(int(str(ordered_gib)) * GIB, int(str(ordered_gib)) * GIB)


_CLOUDS: dict[str, tuple[str, NodeConfig]] = {
    "aws": ("InstanceType", Aws()),
    "gcp": ("machineType", Gcp()),
    "azure": ("azure_arm_parameters", Azure()),
}
"""The clouds by name, each with a field that no other cloud's configuration has."""


def cloud_of(name: str, config: Config) -> tuple[str, NodeConfig]:
    """Return the cloud whose `node_config` this is, by name, whatever the provider's type: ours are `external`.

    Args:
        name: of the node type, for the error.
        config: its `node_config`.

    Raises:
        InvalidInput: no cloud that is known has such machines.
    """
    for cloud, (field, node_config) in _CLOUDS.items():
        if field in config:
            return cloud, node_config
    known = ", ".join(f"{field} ({cloud})" for cloud, (field, _) in _CLOUDS.items())
    raise InvalidInput(
        "says of no cloud that is known what its machines are.",
        field=f"available_node_types.{name}.node_config",
        fix=f"Give one of {known}.",
    )
