"""What a machine knows of itself from its cloud: the metadata service of EC2, version 2."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from datetime import UTC, datetime

import httpx

log = logging.getLogger(__name__)

_SERVICE = "http://169.254.169.254/latest"
_SECONDS = 5.0
_NOTICE_EVERY = 3.0


def identity(node_type: str) -> dict[str, str]:
    """Return the variables by which Ray's autoscaler knows which of its machines has joined; empty where it is none."""
    found = _metadata("instance-id")
    if found is None:
        return {}
    return {"RAY_CLOUD_INSTANCE_ID": found, "RAY_NODE_TYPE_NAME": node_type}


def switch_off() -> None:
    """Switch this machine off; on EC2 that ends what was started to be ended, and nobody pays for it any more."""
    try:
        subprocess.run(["shutdown", "-h", "now"], check=True, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        log.exception("this machine cannot be switched off")
        os._exit(1)


class Notices:
    """Hears whether EC2 is about to take this machine away, which it says two minutes before."""

    def __init__(self) -> None:
        self._told = False
        self._asked = 0.0
        self._is_asked = _metadata("instance-life-cycle") == "spot"

    def look(self) -> float | None:
        """Return in how many seconds the machine is taken away, once; None where nothing is known of it.

        EC2 is asked every few seconds, however often this is called.
        """
        if self._told or not self._is_asked or time.monotonic() - self._asked < _NOTICE_EVERY:
            return None
        self._asked = time.monotonic()
        if (text := _metadata("spot/instance-action")) is None:
            return None
        self._told = True
        try:
            ends = datetime.fromisoformat(json.loads(text)["time"])
        except (ValueError, KeyError, TypeError):
            log.warning("the notice %r is not understood: it counts as one of two minutes", text[:200])
            return 120.0
        return max(0.0, (ends - datetime.now(UTC)).total_seconds())


def _metadata(path: str) -> str | None:
    """Return a value of the metadata service; None where there is none."""
    with httpx.Client(timeout=_SECONDS, trust_env=False) as http:
        try:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
            token = http.put(f"{_SERVICE}/api/token", headers=lifetime).raise_for_status().text
            headers = {"X-aws-ec2-metadata-token": token}
            answer = http.get(f"{_SERVICE}/meta-data/{path}", headers=headers)
            # It says so where there is nothing to say, as mostly of a notice.
            return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().text.strip()
        except httpx.HTTPError as error:
            log.warning("this machine's cloud does not answer what its %s is: %s", path, error)
            return None
