"""Machine groups by the command line and in Python, against a real HTTP server over a cluster's file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from cluster.cluster_file import ClusterFile
from cluster.launches import Trouble
from cluster.ledger import Rental
from simyard.cli.cluster import why_kept
from simyard.cluster import CloudState
from simyard.errors import Conflict, InvalidInput
from simyard.group import Machine, MachineGroup
from simyard.profile import Profile, save_profile
from tests.integration.client.conftest import Served
from tests.integration.serve.server import serving
from tests.unit.serve.face import Face

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILE = Path(__file__).parents[3] / "cluster.yaml"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "live.yaml").write_text(FILE.read_text())
    face = Face(cluster=ClusterFile(tmp_path / "live.yaml", tmp_path / "kept.yaml"))
    face.clock.now = datetime.now(UTC)
    try:
        with serving(face.app) as url:
            save_profile(Profile.model_validate({"url": url, "key": face.key}))
            yield Served(face, url, tmp_path)
    finally:
        face.close()


def trouble(served: Served) -> None:
    [record] = served.face.store.group_records()
    now = datetime.now(UTC).timestamp()
    told = Trouble(code="VcpuLimitExceeded", message="You may have 64.", since=now - 90, next_try=now + 60, count=3)
    assert served.face.cluster is not None
    served.face.cluster.launches.write_text(json.dumps({f"crash-{record.id}-c7i.4xlarge-spot": asdict(told)}))


def test_a_group_is_made_shown_resized_and_ended(cluster: Served) -> None:
    made = cluster.cli("groups", "create", "crash", "--type", "c7i.4xlarge", "--max", "10", "--spot", "--ends", "8h")
    assert made.exit_code == 0, made.stderr
    assert "crash is made: 0 to 10 machines of c7i.4xlarge." in made.stderr
    [record] = cluster.face.store.group_records()
    assert record.spec.ends_at is not None
    assert timedelta(hours=7.9) < record.spec.ends_at - datetime.now(UTC) < timedelta(hours=8.1)
    trouble(cluster)
    shown = cluster.cli("groups", "info", "crash").stdout
    for text in ("0, of 0 to 10", "spot", "16 cpus", "made by", "3 times", "VcpuLimitExceeded: You may have 64. Ask"):
        assert text in shown
    listed = cluster.cli("groups", "list").stdout
    assert "VcpuLimitExceeded" in listed
    assert max(map(len, listed.splitlines())) <= 80
    document = json.loads(cluster.cli("groups", "info", "crash", "--json").stdout)
    assert document["troubles"][0]["count"] == 3
    after = cluster.cli("groups", "resize", "crash", "--count", "2", "--json")
    assert (json.loads(after.stdout)["min"], json.loads(after.stdout)["max"]) == (2, 2)
    cluster.face.run(cluster.face.submit(group="crash"))
    refused = cluster.cli("groups", "end", "crash", "--now")
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert cluster.face.store.group_records()[0].ending_since is None
    ended = cluster.cli("groups", "end", "crash", "--now", "--yes")
    assert "1 task being cancelled" in ended.stderr
    assert cluster.face.store.group_records()[0].stops
    assert ", ending)" in cluster.cli("groups", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--type", "c7i.4xlarg", "--max", "2"), "Did you mean c7i.4xlarge"),
        (("--type", "c7i.4xlarge"), "`count` or `max`"),
        (("--type", "c7i.4xlarge", "--max", "2", "--min", "3"), "more than `max` 2"),
        (("--type", "c7i.4xlarge", "--max", "2", "--ends", "yesterday"), "'yesterday' is no end"),
        (("--type", "c7i.4xlarge", "--max", "2", "--ends", "2020-01-01"), "is over"),
        (("--type", "c7i.4xlarge", "--max", "2", "--spot", "--on-demand"), "Only one market"),
        (("--type", "c7i.4xlarge", "--max", "2", "--disk", "big"), "not a size"),
        (("--type", "c7i.4xlarge", "--max", "9999"), "may have: 100"),
    ],
)
def test_what_is_no_group_is_refused_with_what_to_do(cluster: Served, arguments: Any, told: str) -> None:
    result = cluster.cli("groups", "create", "crash", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert cluster.face.store.group_records() == []


def test_groups_in_python(cluster: Served) -> None:
    with cluster.client as client:
        made = client.groups.create("crash", ["c7i.4xlarge", "m7i.4xlarge"], count=3, idle="5m")
        assert (made.min, made.max, made.machine_types) == (3, 3, ("c7i.4xlarge", "m7i.4xlarge"))
        assert client.groups.create("crash", ["c7i.4xlarge", "m7i.4xlarge"], count=3, idle="5m").name == "crash"
        with pytest.raises(Conflict):
            client.groups.create("crash", "c7i.4xlarge", count=1)
        with pytest.raises(InvalidInput) as refused:
            client.groups.create("crash", "c7i.4xlarge", max=-1)
        assert refused.value.field == "max"
        assert client.groups.resize("crash", max=5).max == 5
        assert client.groups.end("crash").state.value == "ending"


def test_the_cluster_at_a_glance(cluster: Served) -> None:
    face = cluster.face
    now = datetime.now(UTC)
    face.cloud = CloudState(provider="aws", region="eu-central-1", cluster="simyard", answered_at=now, machines=1)
    assert cluster.cli("groups", "create", "crash", "--type", "c7i.4xlarge", "--max", "10", "--spot").exit_code == 0
    trouble(cluster)
    face.submit(group="crash")
    launched = now - timedelta(hours=2)
    face.store.keep_rentals(
        [
            Rental(
                id="i-1",
                group="crash",
                machine_type="c7i.4xlarge",
                market="spot",
                zone="eu-central-1a",
                launched_at=launched,
                last_seen_at=now,
                price_per_hour=0.25,
            )
        ]
    )
    shown = cluster.cli("cluster", "status")
    assert shown.exit_code == 0, shown.output
    for text in (
        "cannot start",
        "aws eu-central-1, cluster simyard, answered now",
        "of at most 100",
        "0.50",
        "VcpuLimitExceeded",
    ):
        assert text in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.split("No c7i")[0].splitlines())
    document = json.loads(cluster.cli("cluster", "status", "--json").stdout)
    assert document["costs"] == {"crash": pytest.approx(0.5, abs=0.01)}
    [crash] = [one for one in document["groups"] if one["name"] == "crash"]
    assert (crash["queued"], crash["idle"]) == (1, 300)
    fix = "Give the head an instance profile."
    face.cloud = face.cloud.model_copy(update={"error": "AWS did not list: Unable to locate credentials", "fix": fix})
    shown = cluster.cli("cluster", "status")
    assert "DOES NOT ANSWER" in shown.stdout
    assert fix in shown.stdout
    explained = json.loads(cluster.cli("cluster", "explain", "--json").stdout)
    assert explained == {"machines": [{"group": "local", "machine": "m1", "why": ANY}]}
    assert "m1" in cluster.cli("cluster", "explain").stdout


def test_a_server_without_a_cloud_says_so(served: Served) -> None:
    shown = served.cli("cluster", "status").stdout
    assert "none: tasks run on machines that are there" in shown
    with served.client as client:
        assert client.cluster().max_machines is None


def test_machines_fit_the_terminal_with_all_that_is_free_on_them(served: Served) -> None:
    large = {"memory": 27 * 2**30, "memory_free": 20 * 2**30, "disk": 80 * 2**30, "disk_free": 2**29}
    one = MACHINE.model_copy(update=large | {"name": "ip-10-100-200-100.eu-central-1.compute.internal"})
    served.face.groups = (MachineGroup(name="crash-tests", machines=(one,)),)
    for arguments in (("groups", "list"), ("groups", "info", "crash-tests")):
        shown = served.cli(*arguments).stdout
        assert max(map(len, shown.splitlines())) <= 80
        for text in ("CPUS FREE", "4/4", "20/27 GiB", "512 MiB/80 GiB"):
            assert text in shown
        assert "GPUS" not in shown
    gpus = one.model_copy(update={"gpus": 8, "gpus_free": 3})
    served.face.groups = (MachineGroup(name="crash-tests", machines=(gpus,)),)
    assert "3/8" in served.cli("groups", "list").stdout


MACHINE = Machine(
    id="1", name="m", group="g", cpus=4, memory=1, gpus=0, cpus_free=4, memory_free=1, gpus_free=0, idle_since=NOON
)


@pytest.mark.parametrize(
    ("machine", "group", "why"),
    [
        ({"idle_since": None, "cpus_free": 1.5}, {}, "It carries tasks: 2.5 of 4 cpus are taken."),
        ({}, {}, "Idle for 1 min 30 s. It ends when its idle limit of 5 min is over, unless a task comes."),
        ({}, {"min": 1}, "Idle for 1 min 30 s. g keeps 1 machines always."),
        ({}, {"state": "ending"}, "Idle for 1 min 30 s. Its group is ending, and so is it."),
        ({}, {"max": None}, "Idle for 1 min 30 s. Nobody ends it: it is no machine of a cloud."),
        ({"is_leaving": True}, {}, "Its cloud is taking it away; it gets no tasks any more."),
    ],
)
def test_why_a_machine_is_kept(machine: dict[str, Any], group: dict[str, Any], why: str) -> None:
    one = MACHINE.model_copy(update=machine)
    its = MachineGroup.model_validate({"name": "g", "min": 0, "max": 3, "idle": 300} | group)
    its = its.model_copy(update={"machines": (one,)})
    assert why_kept(its, one, NOON + timedelta(seconds=90)) == why
