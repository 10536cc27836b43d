"""Ray's own provider of EC2, as the autoscaler calls it by way of ours: failures are noted, and not repeated hotly."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.providers import MINIMAL_EXTERNAL_CONFIG
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from cluster.labels import LAUNCHES
from cluster.launches import Launches

# Ray's defaults for providers of others have fields of which it warns at each look, every five seconds.
for legacy in ("head_node", "worker_nodes"):
    MINIMAL_EXTERNAL_CONFIG.pop(legacy, None)

_AT_ONCE = 20
"""Machines of one node type that are asked for at a time, so that few requests fail where all would."""


class Ec2(AWSNodeProvider):
    """Starts and ends instances as Ray's own provider does."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        """Make it from the `provider` of a cluster file."""
        super().__init__(provider_config, cluster_name)  # type: ignore[no-untyped-call]  # Ray has no types here
        self._launches = Launches(Path(provider_config[LAUNCHES]), time.time)
        self._turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_ONCE))
        self._lock = threading.Lock()

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Return the instances that were started, by id.

        Raises:
            NodeLaunchException: they could not be, or the node type failed a moment ago and was not tried.
        """
        node_type = tags[TAG_RAY_USER_NODE_TYPE]
        with self._lock:
            turn = self._turns[node_type]
        with turn:
            if (waits := self._launches.waits(node_type)) is not None:
                raise NodeLaunchException("Waits", f"{waits.code}: {waits.message}", None)
            try:
                made: dict[str, Any] = super().create_node(node_config, tags, count)
            except NodeLaunchException as error:
                self._launches.failed(node_type, error.category, error.description)
                raise
            except ClientError as error:
                told = error.response.get("Error", {})
                code, message = str(told.get("Code", "ClientError")), str(told.get("Message", error))
                self._launches.failed(node_type, code, message)
                raise NodeLaunchException(code, message, sys.exc_info()) from error
            except Exception as error:
                self._launches.failed(node_type, type(error).__name__, str(error))
                raise
            self._launches.succeeded(node_type)
            return made
