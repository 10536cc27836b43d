"""The template by which Ray's provider of Azure deploys machines, with what it has no parameters for.

Azure charges for a disk and an address until they are deleted, whatever became of their machine: here they go with it,
whoever ends it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

PARAMETER = "customData"
"""Of the template, and what Azure calls a boot script in base64."""
_MACHINE = "Microsoft.Compute/virtualMachines"
_NETWORK = "Microsoft.Network/networkInterfaces"
_GOES_WITH_IT = {"deleteOption": "Delete"}
_DISK = "StandardSSD_LRS"
"""Ray's template has magnetic disks, from which machines boot slowly."""


def adapted(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deployment whose disks and addresses go with their machines, which run the script of its parameters."""
    made = copy.deepcopy(dict(deployment))
    properties = made["properties"]
    template = properties["template"]
    template["variables"]["osDiskType"] = _DISK
    has_script = PARAMETER in properties["parameters"]
    if has_script:
        template["parameters"][PARAMETER] = {"type": "securestring", "metadata": {"description": "The boot script."}}
    for resource in template["resources"]:
        told = resource["properties"]
        if resource["type"] == _MACHINE:
            told["storageProfile"]["osDisk"] |= _GOES_WITH_IT
            for network in told["networkProfile"]["networkInterfaces"]:
                network["properties"] = _GOES_WITH_IT
            if has_script:
                told["osProfile"][PARAMETER] = f"[parameters('{PARAMETER}')]"
        elif resource["type"] == _NETWORK:
            for one in told["ipConfigurations"]:
                if (address := one["properties"].get("publicIpAddress")) is not None:
                    address["properties"] = _GOES_WITH_IT
    return made
