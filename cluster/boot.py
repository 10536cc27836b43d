"""What a node type of a cluster file says in the words of its cloud: machine type, market, disk, tags and boot script.

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
_GPU_SERIES = ("a2-", "a3-", "a4-", "g2-", "g4-")
"""Series of Google's whose machines have GPUs, and cannot be moved to another host while they run."""
_HYPERDISK = "hyperdisk-balanced"
_HYPERDISK_SERIES = ("c4-", "c4a-", "c4d-", "n4-", "n4a-", "n4d-", "h4d-", "a4-", "g4-")
"""Series of Google's that take no persistent disk, only Hyperdisk; of the others not all take Hyperdisk."""


class NodeConfig(Protocol):
    """The `node_config` of a cloud."""

    field: str
    """Where it says the machine type."""

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

    def bought(self, config: Config, machine_type: str, market: Market) -> dict[str, Any]:
        """Return the configuration of machines of another type, and bought otherwise; `market` is one of two."""
        ...

    def with_disk(self, config: Config, gib: int) -> dict[str, Any]:
        """Return the configuration of machines with so large a disk of their own."""
        ...

    def tagged(self, config: Config, tags: Mapping[str, str]) -> dict[str, Any]:
        """Return the configuration of machines whose provider tells these of them, too."""
        ...


class Aws:
    """Arguments of EC2's RunInstances."""

    field = "InstanceType"

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

    def bought(self, config: Config, machine_type: str, market: Market) -> dict[str, Any]:
        """See NodeConfig."""
        made = dict(config) | {"InstanceType": machine_type}
        made.pop("InstanceMarketOptions", None)
        return made | ({"InstanceMarketOptions": {"MarketType": "spot"}} if market is Market.SPOT else {})

    def with_disk(self, config: Config, gib: int) -> dict[str, Any]:
        """See NodeConfig."""
        [first, *others] = config.get("BlockDeviceMappings") or [{"DeviceName": "/dev/xvda", "Ebs": {}}]
        return _with_first(
            config, "BlockDeviceMappings", first | {"Ebs": first.get("Ebs", {}) | {"VolumeSize": gib}}, others
        )

    def tagged(self, config: Config, tags: Mapping[str, str]) -> dict[str, Any]:
        """See NodeConfig."""
        found = [dict(one) for one in config.get("TagSpecifications", ())]
        kept = [tag for one in found if one.get("ResourceType") == "instance" for tag in one.get("Tags", ())]
        own = [{"Key": name, "Value": value} for name, value in tags.items()]
        others = [one for one in found if one.get("ResourceType") != "instance"]
        all_of_it = {"ResourceType": "instance", "Tags": [*(tag for tag in kept if tag["Key"] not in tags), *own]}
        return dict(config) | {"TagSpecifications": [*others, all_of_it]}


class Gcp:
    """The body of Compute Engine's instances.insert."""

    field = "machineType"

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

    def bought(self, config: Config, machine_type: str, market: Market) -> dict[str, Any]:
        """See NodeConfig."""
        made = dict(config) | {"machineType": machine_type}
        # What happens when a host is maintained differs by type and market; by default a machine is moved and goes on.
        made.pop("scheduling", None)
        ends = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
        if market is Market.SPOT:
            made["scheduling"] = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"} | ends
        elif machine_type.startswith(_GPU_SERIES):
            made["scheduling"] = ends
        [first, *others] = made.get("disks") or [{"boot": True, "autoDelete": True}]
        takes_hyperdisk = machine_type.startswith(_HYPERDISK_SERIES)
        said = str((first.get("initializeParams") or {}).get("diskType", ""))
        zone, _, kind = said.rpartition("/diskTypes/")
        if not zone or (kind == _HYPERDISK) == takes_hyperdisk:
            return made
        wanted = _HYPERDISK if takes_hyperdisk else "pd-balanced"
        return _with_first(made, "disks", _with_parameter(first, "diskType", f"{zone}/diskTypes/{wanted}"), others)

    def with_disk(self, config: Config, gib: int) -> dict[str, Any]:
        """See NodeConfig."""
        [first, *others] = config.get("disks") or [{"boot": True, "autoDelete": True}]
        return _with_first(config, "disks", _with_parameter(first, "diskSizeGb", gib), others)

    def tagged(self, config: Config, tags: Mapping[str, str]) -> dict[str, Any]:
        """See NodeConfig."""
        return dict(config) | {"labels": dict(config.get("labels") or {}) | dict(tags)}


class Azure:
    """Parameters of the template by which Ray's provider deploys a machine; ours has `customData` as well."""

    field = "azure_arm_parameters.vmSize"

    def machine_type(self, config: Config) -> str:
        """See NodeConfig."""
        return str(config["azure_arm_parameters"].get("vmSize", ""))

    def market(self, config: Config) -> Market:
        """See NodeConfig."""
        return Market.SPOT if config["azure_arm_parameters"].get("priority") == "Spot" else Market.ON_DEMAND

    def disk(self, config: Config) -> float:
        """See NodeConfig."""
        return _offered(config["azure_arm_parameters"].get("osDiskSize"))

    def with_script(self, config: Config, script: str) -> dict[str, Any]:
        """See NodeConfig."""
        return _with_parameters(config, {"customData": base64.b64encode(script.encode()).decode()})

    def bought(self, config: Config, machine_type: str, market: Market) -> dict[str, Any]:
        """See NodeConfig."""
        return _with_parameters(
            config, {"vmSize": machine_type, "priority": "Spot" if market is Market.SPOT else "Regular"}
        )

    def with_disk(self, config: Config, gib: int) -> dict[str, Any]:
        """See NodeConfig."""
        return _with_parameters(config, {"osDiskSize": gib})

    def tagged(self, config: Config, tags: Mapping[str, str]) -> dict[str, Any]:
        """See NodeConfig."""
        return dict(config) | {"tags": dict(config.get("tags") or {}) | dict(tags)}


def _with_first(config: Config, name: str, first: Any, others: list[Any]) -> dict[str, Any]:
    return dict(config) | {name: [first, *others]}


def _with_parameter(disk: Mapping[str, Any], name: str, value: object) -> dict[str, Any]:
    return dict(disk) | {"initializeParams": dict(disk.get("initializeParams") or {}) | {name: value}}


def _with_parameters(config: Config, more: Mapping[str, Any]) -> dict[str, Any]:
    return dict(config) | {"azure_arm_parameters": dict(config["azure_arm_parameters"]) | dict(more)}


def _offered(ordered_gib: object) -> float:
    return math.inf if ordered_gib is None else offered_disk(int(str(ordered_gib)) * GIB, int(str(ordered_gib)) * GIB)


_CLOUDS: dict[str, NodeConfig] = {"aws": Aws(), "gcp": Gcp(), "azure": Azure()}
"""The clouds by name; each has its machine type in a field that no other cloud's configuration has."""


def cloud_of(name: str, config: Config) -> tuple[str, NodeConfig]:
    """Return the cloud whose `node_config` this is, by name, whatever the provider's type: ours are `external`.

    Args:
        name: of the node type, for the error.
        config: its `node_config`.

    Raises:
        InvalidInput: no cloud that is known has such machines.
    """
    fields = {cloud: one.field.partition(".")[0] for cloud, one in _CLOUDS.items()}
    for cloud, field in fields.items():
        if field in config:
            return cloud, _CLOUDS[cloud]
    known = ", ".join(f"{field} ({cloud})" for cloud, field in fields.items())
    raise InvalidInput(
        "says of no cloud that is known what its machines are.",
        field=f"available_node_types.{name}.node_config",
        fix=f"Give one of {known}.",
    )
