"""What our providers add to Ray's own: failed launches are noted, and not repeated hotly."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler._private.providers import MINIMAL_EXTERNAL_CONFIG
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_LAUNCH_REQUEST, TAG_RAY_USER_NODE_TYPE

from cluster.labels import LAUNCHES, TOGETHER
from cluster.launches import Launches
from cluster.together import Together

# Ray's defaults for providers of others have fields of which it warns at each look, every five seconds.
for legacy in ("head_node", "worker_nodes"):
    MINIMAL_EXTERNAL_CONFIG.pop(legacy, None)

_AT_ONCE = 20
"""Machines of one node type that are asked for at a time, so that few requests fail where all would."""


class Noted:
    """Goes before a provider of Ray's in a class's bases, and notes what came of its launches."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        """Make it from the `provider` of a cluster file."""
        super().__init__(provider_config, cluster_name)  # type: ignore[call-arg]  # a provider of Ray's comes next
        self._launches = Launches(Path(provider_config[LAUNCHES]), time.time)
        self._turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_ONCE))
        self._turns_lock = threading.Lock()
        self._together = Together()

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any:
        """Return what Ray's provider says of the machines that it has started.

        Raises:
            NodeLaunchException: they could not be, or the node type failed a moment ago and was not tried.
        """
        node_type = tags[TAG_RAY_USER_NODE_TYPE]
        config = {name: value for name, value in node_config.items() if name != TOGETHER}
        if not node_config.get(TOGETHER):
            return self._create(node_type, config, tags, count)
        # The autoscaler asks for each machine by itself, and knows by the request whose they are.
        what = f"{node_type} {tags.get(TAG_RAY_LAUNCH_REQUEST)}"
        self._together.ask(what, count, lambda all_of_them: self._create(node_type, config, tags, all_of_them))
        return {}

    def _create(self, node_type: str, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any:
        with self._turns_lock:
            turn = self._turns[node_type]
        with turn:
            if (waits := self._launches.waits(node_type)) is not None:
                raise NodeLaunchException("Waits", f"{waits.code}: {waits.message}", None)
            try:
                made = super().create_node(node_config, tags, count)  # type: ignore[misc]
            except Exception as error:
                code, message = told(error)
                self._launches.failed(node_type, code, message)
                raise
            self._launches.succeeded(node_type)
            return made


def told(error: Exception) -> tuple[str, str]:
    """Return code and message of what a cloud's client raised, as that cloud calls them."""
    if isinstance(error, NodeLaunchException):
        return error.category, error.description
    # boto3 has them in `response`, Azure's clients in `error`, Google's in `error_details` where a call was refused,
    # and an operation of Compute Engine that failed in the only argument of what Ray raises.
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(found := response.get("Error"), Mapping):
        return str(found.get("Code", type(error).__name__)), str(found.get("Message", error))
    inner = getattr(error, "error", None)
    if (code := getattr(inner, "code", None)) is not None:
        details = [one for one in getattr(inner, "details", None) or () if getattr(one, "code", None)]
        inner = details[0] if details else inner
        return str(getattr(inner, "code", code)), str(getattr(inner, "message", error))
    refused = getattr(error, "error_details", None)
    if isinstance(refused, list) and refused and isinstance(refused[0], Mapping):
        return str(refused[0].get("reason", type(error).__name__)), str(refused[0].get("message", error))
    first = error.args[0] if error.args else None
    if isinstance(first, Mapping) and first.get("errors"):
        one = first["errors"][0]
        return str(one.get("code", type(error).__name__)), str(one.get("message", error))
    return type(error).__name__, str(error)
