"""A cloud on this host does what its machines, its API and its cables are said to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from cluster.aws import AwsProvider
from cluster.cluster_file import boot_script
from cluster.errors import ProviderFailed
from cluster.provider import Kind
from tests.cloud.cloud import Cloud, need_cloud, running_cloud
from tests.cloud.faults import Fault
from tests.leftovers import left_of_cloud, nothing_left_of_cloud
from tests.running_server import until

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), boot_seconds=0.5) as cloud:
        yield cloud
    nothing_left_of_cloud(cloud.folder)


@pytest.fixture
def cloud(shared: Cloud) -> Iterator[Cloud]:
    """The cloud without instances and without faults."""
    yield shared
    shared.heal()
    if left := [instance.id for instance in shared.instances("pending", "running")]:
        shared.ec2.terminate_instances(InstanceIds=left)
    until(lambda: not any(instance.pid for instance in shared.instances()), what="the end of all machines")


def test_machines_boot_and_answer_ssh(cloud: Cloud) -> None:
    for name in cloud.launch(2):
        address = cloud.booted(name).address
        assert cloud.ssh(name, "hostname -i; whoami; command -v ray").stdout.split() == [
            address,
            "root",
            str(Path(sys.prefix) / "bin" / "ray"),
        ]


def test_machines_reach_each_other_and_the_host_and_nothing_else(cloud: Cloud) -> None:
    one, other = cloud.launch(2)
    instance = cloud.booted(other)
    address = instance.address
    cloud.booted(one)
    name = f"ip-{address.replace('.', '-')}"
    for to in (address, instance.public):
        for start in ("desk", one):
            greeting = cloud.run(start, "bash", "-c", f"read line </dev/tcp/{to}/22; echo $line").stdout
            assert greeting.startswith("SSH-2.0")
    assert cloud.run(other, "getent", "hosts", name).stdout.split() == [address, name]
    assert "Moto" in cloud.run(one, "curl", "-sS", f"{cloud.environment['AWS_ENDPOINT_URL']}/moto-api/").stdout
    outside = cloud.run(one, "curl", "-sS", "--max-time", "20", "http://192.0.2.1", check=False)
    assert outside.returncode == 7  # told at once that nobody is there


def test_a_machine_has_folders_and_processes_of_its_own(cloud: Cloud) -> None:
    one, other = cloud.launch(2)
    for name in (one, other):
        cloud.booted(name)
        cloud.run(name, "bash", "-c", f"touch ~/{name} /tmp/{name} /run/{name} /dev/shm/{name}")
        for folder in ("~", "/tmp", "/run", "/dev/shm"):
            assert cloud.run(name, "bash", "-c", f"cd {folder}; echo i-*").stdout.split() == [name]
        assert not Path("/dev/shm", name).exists()
        assert int(cloud.run(name, "bash", "-c", "ls -d /proc/[0-9]* | wc -l").stdout) < 10
    assert (cloud.instance(one).home / one).exists()


def test_a_machine_cannot_change_what_it_sees_of_the_host(cloud: Cloud) -> None:
    [name] = cloud.launch()
    cloud.booted(name)
    done = cloud.run(name, "touch", "/usr/local/bin/mark", check=False)
    assert "Read-only file system" in done.stderr
    cloud.run(name, "bash", "-c", "touch /etc/mark /var/log/mark /var/tmp/mark")
    assert not any(Path(folder, "mark").exists() for folder in ("/etc", "/var/log", "/var/tmp"))


@pytest.mark.podman
def test_a_machine_has_containers_of_its_own_that_die_with_it(cloud: Cloud) -> None:
    if shutil.which("podman") is None or shutil.which("busybox") is None:
        pytest.skip("needs podman and busybox: apt-get install podman busybox-static")
    [name] = cloud.launch()
    instance = cloud.booted(name)
    cloud.run(name, "bash", "-c", "mkdir -p system/bin; cp $(command -v busybox) system/bin")
    podman = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs"]
    options = ["--detach", "--net=none", "--memory=50m", "--rootfs", "/root/system"]
    container = cloud.run(name, *podman, "run", *options, "/bin/busybox", "sleep", "1000").stdout.strip()
    assert cloud.run(name, *podman, "ps", "--quiet", "--no-trunc").stdout.strip() == container
    assert container not in subprocess.check_output(["podman", "ps", "--quiet", "--no-trunc"], text=True)
    cloud.kill(name)
    assert not Path(f"/proc/{instance.pid}").exists()
    assert not [path for path in Path("/sys/fs/cgroup").glob("**/libpod-*") if container in path.name]


def test_only_the_key_of_its_launch_opens_a_machine(cloud: Cloud) -> None:
    cloud.ec2.create_key_pair(KeyName="other")
    told = cloud.ec2.run_instances(ImageId=cloud.image, KeyName="other", SubnetId=cloud.subnet, MinCount=1, MaxCount=1)
    name = told["Instances"][0]["InstanceId"]
    cloud.booted(name)
    assert "Permission denied" in cloud.ssh(name, "true").stderr
    cloud.ec2.delete_key_pair(KeyName="other")


def test_user_data_runs_in_the_background(cloud: Cloud) -> None:
    [name] = cloud.launch(user_data="#!/bin/bash\necho begun as $(whoami)\nsleep 1000\n")
    cloud.booted(name)
    until(lambda: "begun as root" in cloud.console(name))


def test_a_machine_is_told_about_itself(cloud: Cloud) -> None:
    [name] = cloud.launch(kind="c5.xlarge", spot=True, user_data="#!/bin/true\n")
    instance = cloud.booted(name)
    assert instance.market == "spot"
    wanted = {
        "meta-data/instance-id": name,
        "meta-data/instance-type": "c5.xlarge",
        "meta-data/instance-life-cycle": "spot",
        "meta-data/placement/availability-zone": f"{cloud.region}a",
        "meta-data/local-ipv4": instance.address,
        "user-data": "#!/bin/true\n",
    }
    for path, told in wanted.items():
        assert _metadata(cloud, name, path) == told


def _metadata(cloud: Cloud, name: str, path: str) -> str:
    """Ask a machine's metadata service as its second version wants it; empty where nothing stands there."""
    script = (
        "base=http://169.254.169.254/latest; ttl='X-aws-ec2-metadata-token-ttl-seconds: 60'; "
        'token=$(curl -fsS -X PUT -H "$ttl" $base/api/token); '
        'curl -fs -H "X-aws-ec2-metadata-token: $token" $base/$0 || true'
    )
    return cloud.run(name, "bash", "-c", script, path).stdout


def test_metadata_need_a_token_where_the_instance_says_so(cloud: Cloud) -> None:
    [name] = cloud.launch()
    cloud.booted(name)
    [free] = cloud.launch()
    told = cloud.ec2.run_instances(
        ImageId=cloud.image,
        InstanceType="m5.large",
        SubnetId=cloud.subnet,
        MinCount=1,
        MaxCount=1,
        MetadataOptions={"HttpTokens": "required"},
    )
    strict = told["Instances"][0]["InstanceId"]
    ask = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/latest/meta-data/instance-id")
    for instance, status in ((free, "200"), (strict, "401")):
        cloud.booted(instance)
        assert cloud.run(instance, *ask).stdout == status
    assert _metadata(cloud, strict, "meta-data/instance-id") == strict


def test_an_ended_instance_is_gone_with_its_processes_and_its_disk(cloud: Cloud) -> None:
    [name] = cloud.launch(user_data="#!/bin/bash\nsetsid sleep 1000 & setsid sleep 1000\n")
    instance = cloud.booted(name)
    cloud.ec2.terminate_instances(InstanceIds=[name])
    assert cloud.instance(name).state == "terminated"
    until(lambda: not [line for line in left_of_cloud(cloud.folder) if name in line], what="the end of the machine")
    assert not Path(f"/proc/{instance.pid}").exists()


def test_a_killed_machine_is_dead_before_the_api_says_so(cloud: Cloud) -> None:
    [name] = cloud.launch(spot=True)
    instance = cloud.booted(name)
    cloud.kill(name, seconds=5)
    assert not Path(f"/proc/{instance.pid}").exists()
    assert cloud.instance(name).state == "running"
    until(lambda: cloud.instance(name).state == "terminated", what="that the API tells of the end")
    told = cloud.ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
    assert told["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_a_cut_machine_runs_on_in_silence_until_it_is_mended(cloud: Cloud) -> None:
    [name] = cloud.launch()
    cloud.booted(name)
    cloud.cut(name)
    with pytest.raises(subprocess.TimeoutExpired):
        cloud.ssh(name, "true", timeout=3)
    assert cloud.run(name, "echo", "alive").stdout == "alive\n"
    assert cloud.instance(name).state == "running"
    cloud.mend(name)
    until(lambda: cloud.ssh(name, "true").returncode == 0, what="an answer of the mended machine")


def test_a_preempted_machine_has_notice_and_is_then_taken_away(cloud: Cloud) -> None:
    [name] = cloud.launch(spot=True)
    cloud.booted(name)
    assert _metadata(cloud, name, "meta-data/spot/instance-action") == ""
    begun = time.monotonic()
    cloud.preempt(name, seconds=6)
    told = json.loads(_metadata(cloud, name, "meta-data/spot/instance-action"))
    assert told["action"] == "terminate"
    assert abs((datetime.fromisoformat(told["time"]) - datetime.now(UTC)).total_seconds()) < 8
    until(lambda: cloud.instance(name).state == "terminated", what="the end of the preempted machine")
    assert time.monotonic() - begun >= 6
    assert cloud.instance(name).pid == 0


def test_a_cluster_s_machines_are_listed_whole_or_not_at_all_and_their_end_may_be_asked_for_twice(cloud: Cloud) -> None:
    tags = {"ray-cluster-name": "ours", "ray-node-type": "worker", "ray-user-node-type": "t", "simyard-group": "g"}
    [name, _other] = cloud.launch(2)
    cloud.ec2.create_tags(Resources=[name], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    provider = AwsProvider("ours", cloud.region, client=_hasty(cloud))
    [one] = provider.list()
    assert (one.id, one.kind, one.group, one.machine_type, one.market) == (
        name,
        Kind.WORKER,
        "g",
        "m5.large",
        "on-demand",
    )
    assert (one.address, one.zone, one.is_ending) == (cloud.instance(name).address, f"{cloud.region}a", False)
    assert abs(datetime.now(UTC) - one.launched_at) < timedelta(minutes=5)
    for fault in (Fault.THROTTLED, Fault.BROKEN, Fault.NOT_ALLOWED, Fault.ANSWER_LOST):
        cloud.inject(fault, action="DescribeInstances")
        with pytest.raises(ProviderFailed):
            provider.list()
    cloud.inject(Fault.LIST_EMPTY)
    assert provider.list() == ()
    cloud.inject(Fault.ANSWER_LOST, action="TerminateInstances")
    with pytest.raises(ProviderFailed):
        provider.end([name])
    provider.end([name])
    [over] = provider.list()
    assert (over.is_ending, over.why_ended) == (True, "the autoscaler or an operator ended it")
    assert over.ended_at is not None
    provider.end([name, "i-00000000000000000"])


def _launched_to_end(cloud: Cloud, plan: dict[str, Any], *, behaviour: str = "terminate") -> str:
    """Launch a machine that joins a cluster as ours do, and return its id."""
    told = cloud.ec2.run_instances(
        ImageId=cloud.image,
        InstanceType="m5.large",
        SubnetId=cloud.subnet,
        MinCount=1,
        MaxCount=1,
        InstanceInitiatedShutdownBehavior=behaviour,
        UserData=boot_script({"group": "g", "type": "t", "cpus": 1, "memory": 2**30} | plan, {}, python=sys.executable),
    )
    return str(told["Instances"][0]["InstanceId"])


def _end_of(cloud: Cloud, name: str) -> tuple[str, str]:
    """Return state and reason of an instance that has ended."""
    until(lambda: cloud.instance(name).state not in ("pending", "running"), 90, what=f"its end: {cloud.console(name)}")
    [told] = cloud.ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"]
    return told["State"]["Name"], told["StateReason"]["Code"]


@pytest.mark.parametrize(("behaviour", "state"), [("terminate", "terminated"), ("stop", "stopped")])
def test_a_machine_whose_head_is_dead_ends_itself(cloud: Cloud, behaviour: str, state: str) -> None:
    nobody = cloud.desk.address + ":6379"
    name = _launched_to_end(cloud, {"head": nobody, "lost_seconds": 4}, behaviour=behaviour)
    assert _end_of(cloud, name) == (state, "Client.InstanceInitiatedShutdown")
    assert "the head has not answered" in cloud.console(name)
    assert cloud.instances("pending", "running") == []


@pytest.mark.parametrize("fault", [Fault.NO_CAPACITY, Fault.NO_QUOTA, Fault.NO_SPOT_QUOTA, Fault.NOT_ALLOWED])
def test_a_refused_launch_launches_nothing(cloud: Cloud, fault: Fault) -> None:
    before = len(cloud.instances())
    cloud.inject(fault, 1)
    with pytest.raises(ClientError) as caught:
        _hasty(cloud).run_instances(ImageId=cloud.image, MinCount=1, MaxCount=1)
    assert caught.value.response["Error"]["Code"] == fault.value
    assert len(cloud.instances()) == before
    assert cloud.calls("RunInstances")[-1].status == caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert cloud.launch()


def _hasty(cloud: Cloud, service: str = "ec2") -> Any:
    """A client that neither waits long nor tries again."""
    return cloud.client(service, Config(retries={"total_max_attempts": 1}, read_timeout=4))


def test_a_fault_meets_only_calls_with_its_parameters(cloud: Cloud) -> None:
    cloud.inject(Fault.NO_CAPACITY, 100, where={"InstanceMarketOptions.MarketType": "spot"})
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        cloud.launch(spot=True)  # tried again and again
    assert cloud.launch(spot=False)
    cloud.heal()
    assert cloud.launch(spot=True)


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.BROKEN])
def test_clients_try_again_after_a_passing_failure(cloud: Cloud, fault: Fault) -> None:
    before = len(cloud.calls("DescribeInstances"))
    cloud.inject(fault, 2, action="DescribeInstances")
    cloud.ec2.describe_instances()
    told = [call.status for call in cloud.calls("DescribeInstances")[before:]]
    assert told == [503 if fault is Fault.THROTTLED else 500] * 2 + [200]


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.ANSWER_LATE])
def test_a_launch_without_an_answer_has_launched(cloud: Cloud, fault: Fault) -> None:
    launch = {"ImageId": cloud.image, "SubnetId": cloud.subnet, "MinCount": 1, "MaxCount": 1, "ClientToken": fault.name}
    before = {instance.id for instance in cloud.instances()}
    cloud.inject(fault)
    with pytest.raises((ConnectionClosedError, ReadTimeoutError)):
        _hasty(cloud).run_instances(**launch)
    [new] = {instance.id for instance in cloud.instances()} - before
    cloud.booted(new)
    # The same launch is not carried out twice.
    assert _hasty(cloud).run_instances(**launch)["Instances"][0]["InstanceId"] == new


def test_fewer_machines_may_come_than_were_asked_for(cloud: Cloud) -> None:
    cloud.inject(Fault.FEWER)
    assert len(cloud.launch(3)) == 1
    assert len(cloud.launch(3)) == 3


def test_a_machine_that_hangs_at_boot_is_told_as_running_and_answers_nothing(cloud: Cloud) -> None:
    cloud.inject(Fault.HANGS_AT_BOOT)
    [hanging], [sound] = cloud.launch(), cloud.launch()
    cloud.booted(sound)
    told = cloud.instance(hanging)
    assert (told.state, told.pid) == ("running", 0)
    assert cloud.ssh(hanging, "true").returncode != 0


def test_the_list_of_instances_may_be_empty_or_old(cloud: Cloud) -> None:
    def listed() -> set[str]:
        told = cloud.ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
        return {instance["InstanceId"] for group in told["Reservations"] for instance in group["Instances"]}

    [first] = cloud.launch()
    assert listed() == {first}
    cloud.inject(Fault.LIST_EMPTY)
    assert listed() == set()
    [second] = cloud.launch()
    cloud.inject(Fault.LIST_STALE)
    assert listed() == {first}
    assert listed() == {first, second}


def test_nothing_is_left_when_the_process_that_started_a_cloud_is_killed(tmp_path: Path) -> None:
    _start_and_kill(tmp_path, keeper=False)
    nothing_left_of_cloud(tmp_path)


def test_machines_and_networks_are_gone_when_the_keeper_is_killed_too(tmp_path: Path) -> None:
    _start_and_kill(tmp_path, keeper=True)
    until(lambda: not [line for line in left_of_cloud(tmp_path) if not line.startswith("disk ")])


_STARTER = """
import sys
from pathlib import Path
from tests.cloud.cloud import running_cloud

with running_cloud(Path(sys.argv[1]), boot_seconds=0) as cloud:
    for name in cloud.launch(2, user_data="#!/bin/bash\\nsetsid sleep 1000 & setsid sleep 1000\\n"):
        cloud.booted(name)
    print(cloud.keeper, flush=True)
    sys.stdin.read()
"""


def _start_and_kill(folder: Path, *, keeper: bool) -> None:
    """Start a cloud with two machines in a process that is killed then, and its keeper before it if asked for."""
    need_cloud()
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        told = starter.stdout.readline()
        kinds = {line.split()[0] for line in left_of_cloud(folder)}
        assert kinds == {"process", "link", "disk"}
        if keeper:
            os.kill(int(told), signal.SIGKILL)
        starter.kill()
