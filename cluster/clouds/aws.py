"""EC2: its metadata service, version 2. It gives spot machines two minutes."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import httpx

from cluster.clouds.cloud import Notice, client, get

log = logging.getLogger(__name__)


class Aws:
    """See Cloud.

    Args:
        service: where the metadata service answers.
    """

    def __init__(self, service: str = "http://169.254.169.254") -> None:
        self._service = service

    def machine_id(self) -> str | None:
        """See Cloud."""
        return self._ask("instance-id")

    def is_watched(self) -> bool:
        """See Cloud."""
        return self._ask("instance-life-cycle") == "spot"

    def give_back(self) -> None:
        """See Cloud: on EC2 one that switches itself off ends, as it was launched to."""

    def notice(self) -> Notice | None:
        """See Cloud."""
        if (text := self._ask("spot/instance-action")) is None:
            return None
        try:
            ends = datetime.fromisoformat(json.loads(text)["time"])
        except (ValueError, KeyError, TypeError):
            log.warning("the notice %r is not understood: it counts as one of two minutes", text[:200])
            return 120.0
        return max(0.0, (ends - datetime.now(UTC)).total_seconds())

    def _ask(self, path: str) -> str | None:
        with client() as http:
            try:
                lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
                token = http.put(f"{self._service}/latest/api/token", headers=lifetime).raise_for_status().text
                return get(http, f"{self._service}/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": token})
            except httpx.HTTPError as error:
                log.warning("EC2 does not answer what this machine's %s is: %s", path, error)
                return None
