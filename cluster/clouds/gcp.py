"""Google Compute Engine: its metadata server. It gives spot machines 30 seconds, and others that it ends a minute."""

from __future__ import annotations

import logging

import httpx

from cluster.clouds.cloud import Notice, client, get

log = logging.getLogger(__name__)

_PREEMPTED_SECONDS = 30.0
_MAINTENANCE_SECONDS = 60.0


class Gcp:
    """See Cloud.

    Args:
        service: where the metadata server answers.
    """

    def __init__(self, service: str = "http://metadata.google.internal") -> None:
        self._service = service

    def machine_id(self) -> str | None:
        """See Cloud."""
        return self._ask("name")

    def is_watched(self) -> bool:
        """See Cloud."""
        # Also one that is not spot may be ended for the maintenance of its host, as all with GPUs are.
        return self._ask("name") is not None

    def give_back(self) -> None:
        """See Cloud: only its disk is charged for, and its account may not delete machines."""

    def notice(self) -> Notice | None:
        """See Cloud."""
        if self._ask("preempted") == "TRUE":
            return _PREEMPTED_SECONDS
        # One that is only moved to another host goes on.
        if self._ask("maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE":
            return _MAINTENANCE_SECONDS
        return None

    def _ask(self, path: str) -> str | None:
        with client() as http:
            try:
                url = f"{self._service}/computeMetadata/v1/instance/{path}"
                return get(http, url, {"Metadata-Flavor": "Google"})
            except httpx.HTTPError as error:
                log.warning("Compute Engine does not answer what this machine's %s is: %s", path, error)
                return None
