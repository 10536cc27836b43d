"""The machines of a cluster on AWS, asked of EC2 with boto3.

Ray's autoscaler tags what it launches with the cluster's name, the node type and whether it is a head or a worker.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from cluster.errors import ProviderFailed
from cluster.labels import CLUSTER_TAG, NODE_TYPE_TAG
from cluster.provider import Instance, kind_of

_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
_PAGE = 500
_BATCH = 100
"""So many are ended by one call."""
_ENDING = frozenset({"shutting-down", "terminated", "stopping", "stopped"})
_WORDS = {
    "Client.UserInitiatedShutdown": "the autoscaler or an operator ended it",
    "Client.InstanceInitiatedShutdown": "it switched itself off",
    "Server.SpotInstanceTermination": "its cloud took it away",
    "Server.SpotInstanceShutdown": "its cloud took it away",
    "Server.InsufficientInstanceCapacity": "its cloud had no capacity for it",
}
_GONE = "InvalidInstanceID.NotFound"


class AwsProvider:
    """The machines of EC2 that carry a cluster's name, in one region.

    A call ends within about a minute and a half, whatever the network does: three tries of at most 25 s each.
    """

    def __init__(self, cluster: str, region: str, *, client: Any = None) -> None:
        self._cluster, self._region = cluster, region
        self._client = client

    def list(self) -> tuple[Instance, ...]:
        """See Provider."""
        ours = [{"Name": f"tag:{CLUSTER_TAG}", "Values": [self._cluster]}]
        with _translated("list this cluster's machines"):
            # A page that fails raises, and what the pages before it have said is thrown away.
            pages = self._ec2().get_paginator("describe_instances").paginate(Filters=ours, MaxResults=_PAGE)
            return tuple(
                _instance_of(one) for page in pages for kept in page["Reservations"] for one in kept["Instances"]
            )

    def end(self, ids: Iterable[str]) -> None:
        """See Provider."""
        left = list(ids)
        with _translated("end machines"):
            for start in range(0, len(left), _BATCH):
                self._end(left[start : start + _BATCH])

    def _end(self, batch: builtins.list[str]) -> None:
        try:
            self._ec2().terminate_instances(InstanceIds=batch)
        except ClientError as error:
            if error.response["Error"]["Code"] != _GONE:
                raise
            # One that EC2 has forgotten keeps it from ending all the others of the call.
            for one in batch if len(batch) > 1 else ():
                self._end([one])

    def _ec2(self) -> Any:
        if self._client is None:
            # Late: it takes a second.
            import boto3

            self._client = boto3.client("ec2", region_name=self._region, config=_CONFIG)
        return self._client


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, KeyError, ValueError) as error:
        fix = "The head's IAM profile must allow ec2:DescribeInstances and ec2:TerminateInstances."
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            fix = "Give the head an instance profile: IamInstanceProfile of the head's node type in cluster.yaml."
        raise ProviderFailed(f"AWS did not {what}: {error}", fix=fix) from error


def _instance_of(told: Mapping[str, Any]) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in told.get("Tags", ())}
    is_ending = told["State"]["Name"] in _ENDING
    return Instance(
        id=told["InstanceId"],
        cluster=tags.get(CLUSTER_TAG, ""),
        kind=kind_of(tags),
        node_type=tags.get(NODE_TYPE_TAG, ""),
        machine_type=told["InstanceType"],
        market="spot" if told.get("InstanceLifecycle") == "spot" else "on-demand",
        zone=told["Placement"]["AvailabilityZone"],
        launched_at=told["LaunchTime"],
        address=told.get("PrivateIpAddress", ""),
        is_ending=is_ending,
        ended_at=_ended_at(told.get("StateTransitionReason", "")) if is_ending else None,
        why_ended=_why_ended(told.get("StateReason", {})) if is_ending else "",
        tags=tags,
    )


def _ended_at(said: str) -> datetime | None:
    """Return the moment in such a text as `User initiated (2026-03-01 12:00:00 GMT)`."""
    found = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", said)
    return None if found is None else datetime.fromisoformat(found[1]).replace(tzinfo=UTC)


def _why_ended(said: Mapping[str, str]) -> str:
    return _WORDS.get(said.get("Code", ""), said.get("Message", ""))
