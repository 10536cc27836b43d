"""The template by which Ray's provider of Azure deploys machines, with the boot script that it has no parameter for."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

PARAMETER = "customData"
"""Of the template, and what Azure calls a boot script in base64."""
_MACHINE = "Microsoft.Compute/virtualMachines"


def with_custom_data(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deployment whose machines run the script that its parameters have; the same where they have none."""
    made = copy.deepcopy(dict(deployment))
    properties = made["properties"]
    if PARAMETER not in properties["parameters"]:
        return made
    template = properties["template"]
    template["parameters"][PARAMETER] = {"type": "securestring", "metadata": {"description": "The boot script."}}
    for resource in template["resources"]:
        if resource["type"] == _MACHINE:
            resource["properties"]["osProfile"][PARAMETER] = f"[parameters('{PARAMETER}')]"
    return made
