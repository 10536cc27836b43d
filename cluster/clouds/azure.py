"""Azure: its instance metadata service and its scheduled events. It gives spot machines 30 seconds."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from cluster.clouds.cloud import Notice, client, get

log = logging.getLogger(__name__)

_MANAGER, _VERSION = "https://management.azure.com", "2024-07-01"
_DELETE_SECONDS = 20.0
_SECONDS = 30.0
"""What is left of an event that has no time, or one that is not understood."""
_ENDING = frozenset({"Preempt", "Terminate", "Redeploy", "Reboot"})
"""What ends all processes of a machine; `Freeze` only makes it pause."""


class Azure:
    """See Cloud.

    Args:
        service: where the metadata service answers.
    """

    def __init__(self, service: str = "http://169.254.169.254") -> None:
        self._service = service
        self._name: str | None = None

    def machine_id(self) -> str | None:
        """See Cloud."""
        if self._name is None:
            self._name = self._ask("instance/compute/name?api-version=2021-02-01&format=text")
        return self._name

    def is_watched(self) -> bool:
        """See Cloud."""
        return self.machine_id() is not None

    def notice(self) -> Notice | None:
        """See Cloud."""
        if (text := self._ask("scheduledevents?api-version=2020-07-01")) is None:
            return None
        try:
            events = json.loads(text)["Events"]
            mine = [one for one in events if one["EventType"] in _ENDING and self.machine_id() in one["Resources"]]
        except (ValueError, KeyError, TypeError):
            log.warning("the scheduled events %r are not understood", text[:200])
            return None
        return min(map(_left, mine), default=None)

    def give_back(self) -> None:
        """See Cloud: it deletes itself, with the rights of the identity that all machines of a cluster have."""
        place = self._ask("instance/compute/resourceId?api-version=2021-02-01&format=text")
        told = self._ask(f"identity/oauth2/token?api-version=2018-02-01&resource={_MANAGER}/")
        if place is None or told is None:
            return
        try:
            headers = {"Authorization": f"Bearer {json.loads(told)['access_token']}"}
            answer = httpx.delete(f"{_MANAGER}{place}?api-version={_VERSION}", headers=headers, timeout=_DELETE_SECONDS)
            answer.raise_for_status()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.warning("this machine cannot be deleted, and is charged for until somebody does it: %s", error)

    def _ask(self, path: str) -> str | None:
        with client() as http:
            try:
                return get(http, f"{self._service}/metadata/{path}", {"Metadata": "true"})
            except httpx.HTTPError as error:
                log.warning("Azure does not answer %s: %s", path, error)
                return None


def _left(event: dict[str, Any]) -> Notice:
    try:
        ends = parsedate_to_datetime(event["NotBefore"])
    except (ValueError, KeyError, TypeError):  # it has begun
        return _SECONDS
    return max(0.0, (ends - datetime.now(UTC)).total_seconds())
