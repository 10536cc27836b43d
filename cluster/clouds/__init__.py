"""What a machine knows of itself from its cloud: a cloud is one file here and one line in the register."""

from __future__ import annotations

from cluster.clouds.aws import Aws
from cluster.clouds.azure import Azure
from cluster.clouds.cloud import Cloud, Notice
from cluster.clouds.gcp import Gcp

__all__ = ["Aws", "Azure", "Cloud", "Gcp", "Notice", "cloud_named"]

_CLOUDS: dict[str, type[Cloud]] = {"aws": Aws, "azure": Azure, "gcp": Gcp}


def cloud_named(name: str) -> Cloud:
    """Return the cloud that this machine is told to be of.

    Raises:
        KeyError: it is unknown here; the head of another release said so.
    """
    return _CLOUDS[name]()
