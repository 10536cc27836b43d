"""Hosts of one's own: `ray up` starts the server on one over SSH, another joins it, and both are given back."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.server_mark import mark_of
from simulators import catalogue
from simulators.runtimes.environment import prepare_environment
from simyard import Client
from tests.cloud.cloud import Cloud, Instance, running_cloud
from tests.leftovers import left_of_cloud
from tests.running_server import until

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "cluster" / "launch"
UP_SECONDS = 400
BUCKET = "my-bucket"


def written(cloud: Cloud, head: Instance) -> dict[str, Any]:
    """Return the file with the four lines changed that an operator changes."""
    text = (LAUNCH / "on-premise.yaml").read_text()
    for before, after in (("/opt/simyard/.venv", sys.prefix), ("10.0.0.5", head.address)):
        assert before in text
        text = text.replace(before, after)
    document: dict[str, Any] = yaml.safe_load(text)
    document["auth"] = {"ssh_user": "root", "ssh_private_key": "/root/key.pem"}
    return document


def unit_command(head: Instance, token: str) -> str:
    """Return what systemd would run on a host that joins."""
    [line] = re.findall(r"^ExecStart=(.*)$", (LAUNCH / "simyard-join.service").read_text(), re.MULTILINE)
    for before, after in (("/opt/simyard/.venv", sys.prefix), ("10.0.0.5", head.address), ("%d/token", token)):
        assert before in line
        line = line.replace(before, after)
    return str(line)


def have_environments(home: Path, environments: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "environments").symlink_to(environments)


@pytest.mark.cloud
@pytest.mark.timeout(1200)
def test_a_server_on_ones_own_hosts_comes_up_runs_tasks_on_all_of_them_and_goes(tmp_path: Path) -> None:
    environments, place = tmp_path / "environments", tmp_path / "cloud"
    place.mkdir()
    spec = catalogue.find("swmm")
    # Machines of the test cloud reach no package host.
    prepare_environment(environments, spec.name, spec.versions[0], lambda: False)
    with running_cloud(place, shown=[environments]) as cloud:
        cloud.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        head, host = (cloud.booted(name) for name in cloud.launch(2))
        desk = cloud.desk.home
        (desk / "on-premise.yaml").write_text(yaml.safe_dump(written(cloud, head)))
        (desk / "key.pem").write_bytes(cloud.key.read_bytes())
        (desk / "key.pem").chmod(0o600)
        data = head.home / ".local/share/simyard"
        have_environments(data, environments)
        up = cloud.run("desk", "ray", "up", "-y", "--no-config-cache", "on-premise.yaml", timeout=UP_SECONDS)
        [key] = re.findall(r"API key\s+(\S+)", up.stdout)
        simyard = f"{sys.prefix}/bin/simyard"
        made = cloud.run(
            "desk", "ray", "exec", "on-premise.yaml", f"{simyard} admin join-token create --lasts 365d", timeout=120
        )
        [token] = re.findall(r"syj_\S+", made.stdout)
        (host.home / "token").write_text(token)
        mark = mark_of((data / "server" / "id").read_text().strip(), cloud.run(host.id, "hostname").stdout.strip())
        have_environments(host.home / ".local/share/simyard/joined" / mark, environments)
        started = cloud.run(
            host.id, "bash", "-c", f"nohup {unit_command(head, '/root/token')} >join.log 2>&1 & echo $!"
        )
        log = host.home / "join.log"
        with Client(f"http://{head.address}:8470", key) as client:

            def machines() -> list[Any]:
                return [machine for group in client.groups.list() for machine in group.machines]

            until(lambda: len(machines()) == 2, 120, what=f"that the host joins: {log.read_text()}")
            case = ROOT / "simulators" / "swmm" / "example"
            most = min(machine.cpus for machine in machines())
            tasks = [client.run("swmm", case, commands=[["sleep", "3"]], cpus=most, memory="256MiB") for _ in range(2)]
            for task in tasks:
                assert task.wait(timeout=200).value == "succeeded", json.dumps(task.explain().model_dump(mode="json"))
            assert {task.info.attempts[-1].machine for task in tasks} == {machine.name for machine in machines()}
        cloud.run(host.id, "kill", "-TERM", started.stdout.strip())
        until(lambda: "its owner's alone again" in log.read_text(), 90, what="that the host has left")
        cloud.run("desk", "ray", "exec", "on-premise.yaml", f"{simyard} down", timeout=120)
        cloud.run("desk", "ray", "down", "-y", "on-premise.yaml", timeout=UP_SECONDS)
        for machine in (head, host):
            left = cloud.run(machine.id, "ps", "-eo", "args").stdout
            assert not any(word in left for word in ("raylet", "gcs_server", "ray::", "serve.keeper")), left
    assert left_of_cloud(place) == []
