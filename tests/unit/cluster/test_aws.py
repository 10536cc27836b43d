"""The machines of a cluster as EC2 tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from ray.autoscaler import tags

from cluster import labels
from cluster.aws import AwsProvider
from cluster.errors import ProviderFailed
from cluster.provider import Kind, has_provider, provider_of

LAUNCHED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FILTERS = [{"Name": "tag:ray-cluster-name", "Values": ["ours"]}]


@pytest.fixture
def ec2() -> Any:
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("ec2", region_name="eu-central-1", **keys)


@pytest.fixture
def stub(ec2: Any) -> Iterator[Stubber]:
    with Stubber(ec2) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def told(name: str, state: str = "running", **more: Any) -> dict[str, Any]:
    tags = {"ray-cluster-name": "ours", "ray-node-type": "worker", "ray-user-node-type": "local"}
    tags |= {"simyard-group": "spot", "simyard-generation": "s1"}
    return {
        "InstanceId": name,
        "InstanceType": "c7i.large",
        "LaunchTime": LAUNCHED,
        "Placement": {"AvailabilityZone": "eu-central-1a"},
        "PrivateIpAddress": "10.0.0.2",
        "State": {"Name": state, "Code": 16},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    } | more


def page(*instances: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"Reservations": [{"Instances": [one]} for one in instances]}
    return answer | ({} if token is None else {"NextToken": token})


def asked(**more: str) -> dict[str, Any]:
    return {"Filters": FILTERS, "MaxResults": 500, **more}


def test_all_pages_are_listed_in_our_words(ec2: Any, stub: Stubber) -> None:
    stub.add_response("describe_instances", page(told("i-1", InstanceLifecycle="spot"), token="more"), asked())
    gone = {
        "StateTransitionReason": "User initiated (2026-03-01 13:30:00 GMT)",
        "StateReason": {"Code": "Client.InstanceInitiatedShutdown", "Message": "…"},
    }
    head = told("i-2", "terminated", Tags=[{"Key": "ray-node-type", "Value": "head"}], **gone)
    stub.add_response("describe_instances", page(head), asked(NextToken="more"))
    one, other = AwsProvider("ours", "eu-central-1", client=ec2).list()
    assert (one.id, one.cluster, one.kind, one.node_type, one.group) == ("i-1", "ours", Kind.WORKER, "local", "spot")
    assert (one.market, one.zone, one.launched_at, one.generation) == ("spot", "eu-central-1a", LAUNCHED, "s1")
    assert not one.is_ending
    assert (other.kind, other.cluster, other.generation, other.is_ending) == (Kind.HEAD, "", None, True)
    assert other.ended_at == datetime(2026, 3, 1, 13, 30, tzinfo=UTC)
    assert other.why_ended == "it switched itself off"


def test_a_page_that_fails_makes_no_list_of_those_before_it(ec2: Any, stub: Stubber) -> None:
    stub.add_response("describe_instances", page(told("i-1"), token="more"), asked())
    stub.add_client_error("describe_instances", "RequestLimitExceeded", http_status_code=503)
    with pytest.raises(ProviderFailed, match="RequestLimitExceeded"):
        AwsProvider("ours", "eu-central-1", client=ec2).list()


def test_a_machine_that_is_told_of_in_part_makes_no_list(ec2: Any, stub: Stubber) -> None:
    broken = told("i-1")
    del broken["LaunchTime"]
    stub.add_response("describe_instances", page(broken), asked())
    with pytest.raises(ProviderFailed, match="LaunchTime"):
        AwsProvider("ours", "eu-central-1", client=ec2).list()


def test_machines_are_ended_and_one_that_is_forgotten_does_not_keep_the_others(ec2: Any, stub: Stubber) -> None:
    stub.add_client_error("terminate_instances", "InvalidInstanceID.NotFound", http_status_code=400)
    stub.add_response("terminate_instances", {}, {"InstanceIds": ["i-1"]})
    stub.add_client_error("terminate_instances", "InvalidInstanceID.NotFound", expected_params={"InstanceIds": ["i-2"]})
    AwsProvider("ours", "eu-central-1", client=ec2).end(["i-1", "i-2"])


def test_an_end_that_is_not_heard_is_said(ec2: Any, stub: Stubber) -> None:
    stub.add_client_error("terminate_instances", "UnauthorizedOperation", http_status_code=403)
    with pytest.raises(ProviderFailed, match="UnauthorizedOperation") as caught:
        AwsProvider("ours", "eu-central-1", client=ec2).end(["i-1"])
    assert "ec2:TerminateInstances" in str(caught.value.fix)


def test_the_tags_are_those_of_ray_s_autoscaler() -> None:
    theirs = (tags.TAG_RAY_CLUSTER_NAME, tags.TAG_RAY_NODE_KIND, tags.TAG_RAY_USER_NODE_TYPE)
    assert theirs == (labels.CLUSTER_TAG, labels.KIND_TAG, labels.NODE_TYPE_TAG)
    assert (tags.NODE_KIND_HEAD, tags.NODE_KIND_WORKER) == ("head", "worker")


def test_only_a_cloud_that_can_be_asked_is_a_provider() -> None:
    for none in ({"cluster_name": "c", "provider": {"type": "local"}}, {}):
        assert (provider_of(none), has_provider(none)) == (None, False)
    document = {"cluster_name": "c", "provider": {"type": "aws", "region": "eu-central-1"}}
    assert has_provider(document)
    found = provider_of(document)
    assert isinstance(found, AwsProvider)
