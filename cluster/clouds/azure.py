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
