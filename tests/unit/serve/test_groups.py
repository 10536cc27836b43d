"""Machine groups over HTTP: made, changed and ended, and everything that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.cluster_file import ClusterFile
from simyard.group import MachineGroup
from tasks.rules import Pause
from tests.unit.serve.face import Face, machine, problem

FILE = Path(__file__).parents[3] / "cluster.yaml"
GROUP = {"name": "crash", "machine_types": ["c7i.4xlarge"], "max": 10}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Face]:
    (tmp_path / "live.yaml").write_text(FILE.read_text())
    face = Face(cluster=ClusterFile(tmp_path / "live.yaml", tmp_path / "kept.yaml"))
    yield face
    face.close()


def made(face: Face, **changes: Any) -> dict[str, Any]:
    answer = face.post("/v1/groups", json=GROUP | changes)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_group_is_made_and_takes_tasks_at_once(cluster: Face) -> None:
    group = made(cluster, market="spot-then-on-demand", idle="10m", disk="200GB")
    assert (group["name"], group["state"], group["user"], group["machines"]) == ("crash", "ready", "ada", [])
    assert (group["min"], group["max"], group["idle"], group["disk"]) == (0, 10, 600, 200 * 10**9)
    assert (group["market"], group["offers"]["cpus"]) == ("spot-then-on-demand", 16)
    assert cluster.waker.count == 1
    cluster.submit(group="crash")
    found = cluster.get("/v1/groups/crash").json()
    assert (found["running"], found["queued"]) == (0, 1)
    assert "crash" in [one["name"] for one in cluster.get("/v1/groups").json()["groups"]]


def test_the_same_request_again_gives_the_same_group_and_another_one_is_refused(cluster: Face) -> None:
    made(cluster)
    assert cluster.post("/v1/groups", json=GROUP).status_code == 200
    assert len(cluster.store.group_records()) == 1
    found = problem(cluster.post("/v1/groups", json=GROUP | {"max": 11}), 409)
    assert (found["field"], found["detail"]) == ("name", "There is a group crash already.")
    problem(cluster.post("/v1/groups", json=GROUP, key=cluster.add_key("bob")), 409)


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"machine_types": ["c7i.4xlarg"]}, "machine_types.0", "c7i.4xlarge"),
        ({"machine_types": ["c7i.4xlarge"] * 2}, "", "names a type twice"),
        ({"machine_types": []}, "machine_types", "at least 1"),
        ({"max": 101}, "max", "100"),
        ({"max": None, "count": 1000}, "count", "100"),
        ({"min": 11}, "", "`min` 11 is more than `max` 10"),
        ({"max": None}, "", "`count` or `max`"),
        ({"mpi": True, "min": 2}, "", "all or none"),
        ({"max": 0}, "", "at least one machine"),
        ({"count": 2}, "", "one or the other"),
        ({"max": -1}, "max", "greater than or equal to 0"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at", "is over"),
        ({"ends_at": "2099-01-01T00:00:00"}, "ends_at", "timezone"),
        ({"name": "no good"}, "name", "match"),
        ({"name": "dash-"}, "name", "match"),
        ({"disk": "1GB"}, "disk", "greater than"),
        ({"idle": "soon"}, "idle", "not a duration"),
        ({"market": "auction"}, "market", "spot"),
        ({"colour": "red"}, "colour", "no such field"),
    ],
)
def test_what_no_cluster_can_have_is_refused_with_the_field(
    cluster: Face, changes: dict[str, Any], field: str, told: str
) -> None:
    body = {name: value for name, value in (GROUP | changes).items() if value is not None}
    found = problem(cluster.post("/v1/groups", json=body), 422)
    assert (found["field"] or "") == field
    assert told in f"{found['detail']} {found['fix']}"
    assert cluster.store.group_records() == []


def test_a_name_of_the_cluster_file_is_taken_and_such_a_group_is_not_changed_here(cluster: Face) -> None:
    problem(cluster.post("/v1/groups", json=GROUP | {"name": "gpu"}), 409)
    found = problem(cluster.request("PATCH", "/v1/groups/gpu", json={"max": 2}), 409)
    assert "cluster file" in str(found["fix"])
    problem(cluster.post("/v1/groups/gpu:end", json={}), 409)
    problem(cluster.get("/v1/groups/none"), 404)


def test_a_name_of_own_hardware_that_has_joined_is_taken(cluster: Face) -> None:
    cluster.groups = (MachineGroup(name="bench", machines=(machine(),)),)
    problem(cluster.post("/v1/groups", json=GROUP | {"name": "bench"}), 409)
    assert cluster.store.group_records() == []


def test_a_server_on_one_machine_starts_no_others(face: Face) -> None:
    found = problem(face.post("/v1/groups", json=GROUP), 422)
    assert "one machine" in str(found["detail"])
    assert "ray up" in str(found["fix"])
    problem(face.post("/v1/groups/local:end", json={}), 409)


def test_a_group_changes_its_size_and_kind(cluster: Face) -> None:
    made(cluster)
    after = cluster.request("PATCH", "/v1/groups/crash", json={"max": 20, "min": 2}).json()
    assert (after["min"], after["max"]) == (2, 20)
    after = cluster.request("PATCH", "/v1/groups/crash", json={"count": 3}).json()
    assert (after["min"], after["max"]) == (3, 3)
    after = cluster.request("PATCH", "/v1/groups/crash", json={"min": 1}).json()
    assert (after["min"], after["max"]) == (1, 3)
    problem(cluster.request("PATCH", "/v1/groups/crash", json={"min": 4}), 422)
    problem(cluster.request("PATCH", "/v1/groups/crash", json={"max": 101}), 422)
    problem(cluster.request("PATCH", "/v1/groups/crash", json={}), 422)
    assert cluster.store.group_records()[0].spec.max == 3


def test_only_who_made_a_group_changes_or_ends_it(cluster: Face) -> None:
    made(cluster)
    bob = cluster.add_key("bob")
    found = problem(cluster.request("PATCH", "/v1/groups/crash", json={"max": 2}, key=bob), 403)
    assert "ada" in str(found["fix"])
    problem(cluster.post("/v1/groups/crash:end", json={"now": True}, key=bob), 403)
    assert cluster.get("/v1/groups/crash", key=bob).json()["state"] == "ready"


def test_an_ending_group_takes_no_tasks_and_says_so(cluster: Face) -> None:
    made(cluster)
    task = cluster.submit(group="crash")
    answer = cluster.post("/v1/groups/crash:end", json={})
    assert (answer.status_code, answer.json()["state"]) == (202, "ending")
    assert Pause(group="crash") in cluster.store.rules(cluster.clock.now).pauses
    told = cluster.get(f"/v1/tasks/{task}/explain").json()
    assert "which is ending" in told["summary"]
    assert "groups create" in told["next"]
    found = problem(cluster.post("/v1/tasks", json=cluster.spec(group="crash")), 422)
    assert (found["field"], "ending" in str(found["detail"])) == ("group", True)
    problem(cluster.request("PATCH", "/v1/groups/crash", json={"max": 2}), 409)
    found = problem(cluster.post("/v1/groups", json=GROUP), 409)
    assert "is ending" in str(found["detail"])
    cluster.clock.advance(60)
    cluster.post("/v1/groups/crash:end", json={"now": True})
    [record] = cluster.store.group_records()
    assert (record.stops, record.ending_since) == (True, cluster.clock.now)


def test_a_name_is_free_again_once_its_group_has_ended(cluster: Face) -> None:
    made(cluster)
    cluster.store.pause(Pause(group="crash"))
    [record] = cluster.store.group_records()
    ended = record.model_copy(update={"ending_since": record.created_at, "ended_at": record.created_at})
    cluster.store.put_group(ended, record)
    cluster.clock.advance(timedelta(minutes=1).total_seconds())
    made(cluster)
    assert cluster.store.rules(cluster.clock.now).pauses == frozenset()
    assert len({one.id for one in cluster.store.group_records()}) == 2
