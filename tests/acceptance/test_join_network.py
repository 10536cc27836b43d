"""A machine of another address, with a disk and a network of its own, that joins a server on this host."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cluster.server_mark import mark_of
from simulators import catalogue
from simulators.runtimes.environment import prepare_environment
from tests.cloud.cloud import running_cloud
from tests.leftovers import left_of_cloud
from tests.running_server import SIMYARD, RunningServer, until
from tests.services.second_machine import machines_of

BUCKET = "my-bucket"


def host_of(url: str) -> str:
    return str(urlsplit(url).hostname)


@pytest.mark.cloud
@pytest.mark.timeout(900)
def test_another_host_joins_over_the_network_runs_tasks_with_its_own_credentials_and_leaves(tmp_path: Path) -> None:
    environments, place, home = tmp_path / "environments", tmp_path / "cloud", tmp_path / "home"
    for folder in (place, home):
        folder.mkdir()
    spec = catalogue.find("swmm")
    # Machines of the test cloud reach no package host.
    prepare_environment(environments, spec.name, spec.versions[0], lambda: False)
    with running_cloud(place, shown=[environments]) as cloud:
        cloud.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        here = host_of(cloud.environment["AWS_ENDPOINT_URL"])
        server = RunningServer(home, **cloud.environment)
        try:
            server.start(f"--host={here}", f"--storage=s3://{BUCKET}/simyard")
            assert host_of(server.url) == here
            made = server.simyard("admin", "join-token", "create", "--json")
            (cloud.desk.home / "token").write_text(json.loads(made.stdout)["token"])
            name = cloud.run("desk", "hostname").stdout.strip()
            mark = mark_of((server.data_dir / "server" / "id").read_text().strip(), name)
            kept = f"/root/.local/share/simyard/joined/{mark}"
            cloud.run("desk", "bash", "-c", f"mkdir -p {kept} && ln -sfn '{environments}' {kept}/environments")
            join = f"{SIMYARD} join {server.url} --group=bench --cpus=1 --memory=1GiB --token-file=token"
            refused = cloud.run(
                "desk",
                "bash",
                "-c",
                f"AWS_SECRET_ACCESS_KEY= AWS_ACCESS_KEY_ID= AWS_ENDPOINT_URL=http://{here}:9 {join}",
                check=False,
            )
            assert refused.returncode in (2, 3)
            assert "storage" in refused.stderr
            started = cloud.run("desk", "bash", "-c", f"nohup {join} >join.log 2>&1 & echo $!")
            log = cloud.desk.home / "join.log"
            try:
                until(lambda: len(machines_of(server)) == 2, 90, what="that the machine joins")
            except AssertionError:
                raise AssertionError(log.read_text()) from None
            there = ("sh", "-c", f"[ $(hostname) = {name} ]")
            [task] = server.submit(there, group="bench", resources={"cpus": 1, "memory": "256MiB"})
            [told] = server.ended(task)
            assert (told["status"], told["attempts"][-1]["machine"]) == ("succeeded", name), told
            cloud.run("desk", "kill", "-INT", started.stdout.strip())
            until(lambda: "its owner's alone again" in log.read_text(), 90, what="that it has left")
            left = cloud.run("desk", "ps", "-eo", "args").stdout
            assert not any(word in left for word in ("raylet", "bare_member", "ray::"))
            assert "encrypted" in log.read_text(), "over plain HTTP"
        finally:
            server.stop()
    assert left_of_cloud(place) == []
