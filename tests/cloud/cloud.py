"""A cloud as tests see it: what runs, what happens to it, and what AWS's clients need in order to talk to it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.cloud.faults import Call, Fault
from tests.running_server import until

REGION = "eu-central-1"
_PROJECT = Path(__file__).parents[2]
_TOOLS = ("ip", "nsenter", "setpriv", "ssh", "ssh-keygen", "/usr/sbin/sshd", "rsync", "unshare")
_END_SECONDS = 120.0
_BOOT_SECONDS = 60.0


@dataclass(frozen=True)
class Instance:
    """A machine as it was when it was asked for."""

    id: str
    kind: str
    state: str
    market: str
    address: str
    public: str
    """The address at which the desk and other machines find it too, and this host does not."""
    pid: int
    """Its first process as this host sees it, 0 while it does not run."""
    home: Path
    """Its home folder as this host sees it: `/root` on the machine."""
    tags: Mapping[str, str] = field(default_factory=dict)


class Cloud:
    """A cloud that runs: `environment` is all that AWS's clients need; the machines have it too."""

    def __init__(self, folder: Path, keeper: subprocess.Popen[str], variables: Mapping[str, str]) -> None:
        self._keeper = keeper
        self._lock = Lock()
        self.folder = folder
        told = self._answer()
        self.key = folder / "key"
        self.region = REGION
        self.environment = {**variables, "AWS_ENDPOINT_URL": str(told["endpoint"])}
        self.ec2 = self.client("ec2")
        self.image, self.subnet, self.instance_profile = self._account(told["network"])

    @property
    def keeper(self) -> int:
        """The id of the process in which the cloud lives."""
        return self._keeper.pid

    def client(self, service: str, config: Config | None = None) -> Any:
        """Return boto3's client of a service of this cloud."""
        return boto3.client(
            service,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
            config=config,
        )

    def _account(self, network: str) -> tuple[str, str, str]:
        """Make what an account has before its first cluster: an image, a subnet, the key, and rights for machines."""
        image = self.ec2.register_image(Name="debian", Architecture="x86_64", RootDeviceName="/dev/xvda")["ImageId"]
        for default in self.ec2.describe_subnets()["Subnets"]:  # they are not of this cloud's network
            self.ec2.delete_subnet(SubnetId=default["SubnetId"])
        vpc = self.ec2.create_vpc(CidrBlock=network)["Vpc"]["VpcId"]
        block = network.replace(".0.0/16", ".8.0/24")
        subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"{self.region}a")["Subnet"]
        self.ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": True})
        self.ec2.import_key_pair(KeyName="key", PublicKeyMaterial=self.key.with_suffix(".pub").read_bytes())
        profile = self.client("iam").create_instance_profile(InstanceProfileName="machines")["InstanceProfile"]
        return image, subnet["SubnetId"], profile["Arn"]

    def launch(self, count: int = 1, *, kind: str = "m5.large", spot: bool = False, user_data: str = "") -> list[str]:
        """Launch instances as any client does, and return their ids."""
        market = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
        told = self.ec2.run_instances(
            ImageId=self.image,
            InstanceType=kind,
            KeyName="key",
            SubnetId=self.subnet,
            MinCount=1,
            MaxCount=count,
            UserData=user_data,
            **market,
        )
        return [instance["InstanceId"] for instance in told["Instances"]]

    def instances(self, *states: str) -> list[Instance]:
        """Return what the emulator says of the instances, or of those in these states, with their machines."""
        return [told for told in self._all()[1:] if not states or told.state in states]

    def instance(self, name: str) -> Instance:
        """Return an instance by its id."""
        [found] = [told for told in self._all() if told.id == name]
        return found

    @property
    def desk(self) -> Instance:
        """The user's own machine, from which a cluster is launched: nothing it does touches this host."""
        return self._all()[0]

    def _all(self) -> list[Instance]:
        return [Instance(**{**told, "home": Path(told["home"])}) for told in self._ask("instances")]

    def booted(self, name: str, seconds: float = _BOOT_SECONDS) -> Instance:
        """Return an instance as soon as its machine has booted and answers to SSH."""

        def ready() -> Instance | None:
            told = self.instance(name)
            return told if told.pid and _listens(told.address, 22) else None

        try:
            found: Instance = until(ready, seconds)
        except AssertionError:
            raise AssertionError(f"{name} does not answer after {seconds:g} s: {self.console(name)}") from None
        return found

    def run(self, name: str, *argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine, in its home folder, and return what it said; it ends with the machine."""
        instance = self.instance(name)
        assert instance.pid, f"{name} does not run"
        enter = ["nsenter", f"--target={instance.pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        shell = ["env", "-i", "HOME=/root", "bash", "-c", 'cd; . ~/.bashrc; exec "$@"', "bash"]
        done = subprocess.run(
            [*enter, *shell, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{argv} gave {done.returncode}: {done.stderr}{done.stdout}"
        return done

    def ssh(self, name: str, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine over SSH from this host."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"]
        argv = ["ssh", "-F", "none", "-i", str(self.key), *(f"-o{option}" for option in options)]
        return subprocess.run(
            [*argv, f"root@{self.instance(name).address}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def console(self, name: str) -> str:
        """Return what a machine's first processes have written, its user data among them; or the `keeper`."""
        log = self.folder / f"{name}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def kill(self, name: str, seconds: float = 1.0) -> None:
        """Kill all of a machine's processes at once; after the seconds the emulator says that it is terminated."""
        self._ask("kill", instance=name, seconds=seconds)

    def cut(self, name: str) -> None:
        """Pull a machine's network cable: it runs on, and nobody hears of it."""
        self._ask("cut", instance=name)

    def mend(self, name: str) -> None:
        """Plug a machine's network cable in again."""
        self._ask("mend", instance=name)

    def preempt(self, name: str, seconds: float) -> None:
        """Give a machine notice by its metadata service, and take it away after the seconds."""
        self._ask("preempt", instance=name, seconds=seconds)

    def inject(self, fault: Fault, count: int = 1, *, action: str = "", where: Mapping[str, str] | None = None) -> None:
        """Let the next calls meet a fault: those of the fault's own action, or of `action`, with these parameters."""
        self._ask("inject", fault=fault.value, count=count, action=action, where=dict(where or {}))

    def heal(self) -> None:
        """Let no call meet a fault any more."""
        self._ask("heal")

    def calls(self, action: str) -> list[Call]:
        """Return the calls of an action so far."""
        return [Call(**told) for told in self._ask("calls") if told["action"] == action]

    def foreign_inject(self, fault: StrEnum, action: str, count: int = 1, *, spot_alone: bool = False) -> None:
        """Let the next calls of an action of another cloud's API meet a fault."""
        self._ask("foreign_inject", fault=fault.value, action=action, count=count, spot_alone=spot_alone)

    def foreign_heal(self) -> None:
        """Let no call of that API meet a fault any more."""
        self._ask("foreign_inject", fault="", action="", count=0, spot_alone=False)

    def foreign_calls(self, action: str) -> int:
        """Return how many calls of an action of another cloud's API came."""
        return list(self._ask("foreign_calls")).count(action)

    def foreign_left(self) -> list[str]:
        """Return all that another cloud still has, and charges for."""
        return list(self._ask("foreign_left"))

    def _ask(self, command: str, **more: Any) -> Any:
        assert self._keeper.stdin is not None
        with self._lock:
            self._keeper.stdin.write(json.dumps({"do": command, **more}) + "\n")
            self._keeper.stdin.flush()
            told = self._answer()
        assert "error" not in told, f"{command}: {told['error']}"
        return told["answer"]

    def _answer(self) -> dict[str, Any]:
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline()
        assert line, f"the cloud's keeper has ended, and nothing runs any more: {self.console('keeper')[-4000:]}"
        told: dict[str, Any] = json.loads(line)
        return told


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def need_cloud() -> None:
    """Skip the test where this host cannot be a cloud."""
    if missing := _missing():
        pytest.skip(f"a cloud on this host needs {missing}")


def _missing() -> str:
    if os.geteuid() != 0:
        return "root and namespaces"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)}: apt-get install iproute2 openssh-server rsync util-linux"
    tried = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--mount-proc"]
    tried += ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"root with namespaces and mounts: {done.stderr.strip()}"


@contextmanager
def running_cloud(
    folder: Path, boot_seconds: float = 1.0, shown: Sequence[Path] = (), *, foreign: str | None = None
) -> Iterator[Cloud]:
    """Give a cloud whose machines boot so long after their launch; nothing is left of it but logs in the folder.

    `shown` are folders of this host that the machines have, too, as if they were in their image. With `foreign`, `gcp`
    or `azure`, it is that cloud: its machines know of nothing of AWS but the storage, by a secret.
    """
    need_cloud()
    for name in ("key", "host-key"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "simyard", "-f", str(folder / name)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
    variables = {
        "AWS_ACCESS_KEY_ID": "cloud",
        "AWS_SECRET_ACCESS_KEY": "cloud-secret",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "NO_PROXY": "*",
        "RAY_USAGE_STATS_ENABLED": "0",
    } | dict.fromkeys(proxies, "")
    argv = [sys.executable, "-m", "tests.cloud.keeper", str(folder), REGION, str(boot_seconds)]
    argv += [json.dumps({"environment": variables, "foreign": foreign})]
    argv += map(str, shown)
    with (
        (folder / "keeper.log").open("ab") as log,
        subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=_PROJECT,
            env={**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
            start_new_session=True,
        ) as keeper,
    ):
        try:
            cloud = Cloud(folder, keeper, variables)
            cloud.booted("desk")
            yield cloud
        finally:
            assert keeper.stdin is not None
            with suppress(BrokenPipeError):
                keeper.stdin.close()
            try:
                status = keeper.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                keeper.kill()
                raise
            assert status == 0, f"the cloud's keeper ended with {status}: {(folder / 'keeper.log').read_text()[-4000:]}"
