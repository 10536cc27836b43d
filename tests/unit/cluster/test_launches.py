"""What came of asking for machines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_LAUNCH_REQUEST, TAG_RAY_USER_NODE_TYPE

from cluster.labels import LAUNCHES, TOGETHER
from cluster.launches import FIRST_WAIT, LONGEST_WAIT, Launches, after, read_troubles
from cluster.noted import Noted, told


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_node_type_that_failed_waits_longer_each_time_and_is_forgiven_at_once(tmp_path: Path) -> None:
    clock = Clock()
    launches = Launches(tmp_path / "launches.json", clock)
    assert launches.waits("a") is None
    waits = []
    for count in range(1, 9):
        launches.failed("a", "VcpuLimitExceeded", "You have no more.")
        trouble = launches.waits("a")
        assert trouble is not None
        assert (trouble.count, trouble.since) == (count, 1000.0)
        waits.append(trouble.next_try - clock.now)
        assert launches.waits("b") is None
        clock.now = trouble.next_try
        assert launches.waits("a") is None
    assert FIRST_WAIT * 0.75 <= waits[0] <= FIRST_WAIT * 1.25
    assert LONGEST_WAIT * 0.75 <= waits[-1] <= LONGEST_WAIT * 1.25
    launches.succeeded("a")
    assert read_troubles(tmp_path / "launches.json") == {}


def test_many_that_fail_together_count_once(tmp_path: Path) -> None:
    clock = Clock()
    launches = Launches(tmp_path / "launches.json", clock)
    for _ in range(100):
        launches.failed("a", "InsufficientInstanceCapacity", "None left.")
    assert read_troubles(tmp_path / "launches.json")["a"].count == 1


def test_another_process_reads_the_same_and_goes_on_with_it(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "launches.json"
    Launches(path, clock).failed("a", "Strange", "Nobody knows.")
    trouble = read_troubles(path)["a"]
    assert (trouble.code, trouble.message) == ("Strange", "Nobody knows.")
    assert "monitor.log" in trouble.fix
    again = Launches(path, clock)
    assert again.waits("a") == trouble


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": {"code": 1}}', '{"a": 3}'])
def test_a_damaged_file_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "launches.json").write_text(text)
    assert read_troubles(tmp_path / "launches.json") == {}


def test_a_disk_that_is_full_keeps_no_machine_from_starting(tmp_path: Path) -> None:
    launches = Launches(tmp_path / "gone" / "launches.json", Clock())
    launches.failed("a", "Strange", "Nobody knows.")
    assert launches.waits("a") is not None


def test_what_can_be_done_is_said_for_each_kind_of_error() -> None:
    for code, fix in (
        ("InsufficientInstanceCapacity", "further machine types"),
        ("VcpuLimitExceeded", "higher quota"),
        ("UnauthorizedOperation", "the right that is named"),
        ("InvalidAMIID.NotFound", "ImageId"),
    ):
        assert fix in after(None, code, "", 0.0, 0.5).fix


class OfAzure(Exception):  # noqa: N818 - as Azure's clients shape theirs
    def __init__(self, code: str, *details: tuple[str, str]) -> None:
        super().__init__("(whole text)")
        parts = [SimpleNamespace(code=name, message=message) for name, message in details]
        self.error = SimpleNamespace(code=code, message="Look at the details.", details=parts)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (NodeLaunchException("VcpuLimitExceeded", "You have no more.", None), "VcpuLimitExceeded", "You have no more."),
        (ClientError({"Error": {"Code": "AuthFailure", "Message": "Who?"}}, "RunInstances"), "AuthFailure", "Who?"),
        (NoCredentialsError(), "NoCredentialsError", "Unable to locate credentials"),
        (
            Exception({"errors": [{"code": "QUOTA_EXCEEDED", "message": "Quota CPUS exceeded."}]}),
            "QUOTA_EXCEEDED",
            "Quota CPUS exceeded.",
        ),
        (OfAzure("DeploymentFailed", ("SkuNotAvailable", "None here.")), "SkuNotAvailable", "None here."),
        (OfAzure("AuthorizationFailed"), "AuthorizationFailed", "Look at the details."),
        (TimeoutError("too late"), "TimeoutError", "too late"),
        (ValueError(), "ValueError", ""),
    ],
)
def test_code_and_message_are_those_of_the_cloud(error: Exception, code: str, message: str) -> None:
    assert told(error) == (code, message)


class Rays:
    """Starts what it may, as a provider of Ray's does."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        self.asked, self.error = 0, None
        self.requests: list[tuple[dict[str, Any], int]] = []

    error: Exception | None

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        self.asked += 1
        self.requests.append((node_config, count))
        if self.error is not None:
            raise self.error
        return {"i-1": tags}


class Ours(Noted, Rays):
    pass


def test_a_node_type_that_failed_is_not_asked_for_again_before_its_wait_is_over(tmp_path: Path) -> None:
    path = tmp_path / "launches.json"
    provider = Ours({LAUNCHES: str(path)}, "cluster")
    tags = {TAG_RAY_USER_NODE_TYPE: "a"}
    assert provider.create_node({}, tags, 1) == {"i-1": tags}
    assert not path.exists()
    provider.error = OfAzure("AllocationFailed")
    with pytest.raises(OfAzure):
        provider.create_node({}, tags, 1)
    assert read_troubles(path)["a"].code == "AllocationFailed"
    provider.error = None
    for _ in range(3):
        with pytest.raises(NodeLaunchException, match="AllocationFailed"):
            provider.create_node({}, tags, 1)
    assert provider.asked == 2
    assert provider.create_node({}, {TAG_RAY_USER_NODE_TYPE: "b"}, 1)


def test_machines_that_come_together_are_asked_for_once_and_the_cloud_is_told_nothing_of_it(tmp_path: Path) -> None:
    provider = Ours({LAUNCHES: str(tmp_path / "launches.json")}, "cluster")
    tags = {TAG_RAY_USER_NODE_TYPE: "a", TAG_RAY_LAUNCH_REQUEST: "r"}
    with ThreadPoolExecutor(4) as threads:
        for call in [threads.submit(provider.create_node, {TOGETHER: True, "I": 1}, tags, 1) for _ in range(4)]:
            call.result(30)
    assert provider.requests == [({"I": 1}, 4)]
    provider.error = OfAzure("AllocationFailed")
    with ThreadPoolExecutor(4) as threads:
        for call in [threads.submit(provider.create_node, {TOGETHER: True}, tags, 1) for _ in range(4)]:
            with pytest.raises(OfAzure):
                call.result(30)
    assert provider.asked == 2
    assert read_troubles(tmp_path / "launches.json")["a"].count == 1
