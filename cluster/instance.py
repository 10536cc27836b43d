"""This machine in its cloud: who it is for Ray's autoscaler, when it is taken away, and how it is switched off."""

from __future__ import annotations

import logging
import os
import subprocess
import time

from cluster.clouds import Cloud, Notice

log = logging.getLogger(__name__)

_NOTICE_EVERY = 3.0


def identity(cloud: Cloud, node_type: str) -> dict[str, str]:
    """Return the variables by which Ray's autoscaler knows which of its machines has joined; empty where it is none."""
    found = cloud.machine_id()
    if found is None:
        return {}
    return {"RAY_CLOUD_INSTANCE_ID": found, "RAY_NODE_TYPE_NAME": node_type}


def switch_off(cloud: Cloud) -> None:
    """Switch this machine off, and let its cloud end it, so that nobody pays for it any more."""
    cloud.give_back()
    try:
        subprocess.run(["shutdown", "-h", "now"], check=True, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        log.exception("this machine cannot be switched off")
        os._exit(1)


class Notices:
    """Hears whether the cloud is about to take this machine away."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._told = False
        self._asked = 0.0
        self._is_asked = cloud.is_watched()

    def look(self) -> Notice | None:
        """Return in how many seconds the machine is taken away, once; None where nothing is known of it.

        The cloud is asked every few seconds, however often this is called.
        """
        if self._told or not self._is_asked or time.monotonic() - self._asked < _NOTICE_EVERY:
            return None
        self._asked = time.monotonic()
        found = self._cloud.notice()
        self._told = found is not None
        return found
