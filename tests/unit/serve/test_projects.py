"""Pausing and resuming projects and groups over HTTP, and what an explanation says of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cluster.fleet import Room
from simulators.outcome import Outcome
from simyard.group import MachineGroup
from simyard.simulator import RuntimeName
from simyard.status import Status
from tasks.lifecycle import Dispatch, End
from tasks.prices import Prices, Sold
from tasks.rules import Pause, Quota
from tests.unit.serve.face import Face, machine, problem


def explained(face: Face, task: str) -> dict[str, object]:
    told: dict[str, object] = face.get(f"/v1/tasks/{task}/explain").json()
    return told


def test_a_project_is_paused_for_its_user_and_resumed(face: Face) -> None:
    task = face.submit(project="bridge")
    for _ in range(2):
        answer = face.post("/v1/projects/bridge:pause")
        assert (answer.status_code, answer.json()) == (200, {"project": "bridge", "group": None, "paused": True})
    assert face.store.rules(face.clock.now).pauses == {Pause(user="ada", project="bridge")}
    told = explained(face, task)
    assert "The project bridge is paused for ada." in str(told["summary"])
    assert told["next"] == "Let it go on with `simyard projects resume bridge`."
    assert (told["position"], told["expected_start"]) == (None, None)
    woken = face.waker.count
    assert face.post("/v1/projects/bridge:resume").json()["paused"] is False
    assert face.store.rules(face.clock.now).pauses == frozenset()
    assert face.waker.count == woken + 1
    assert explained(face, task)["position"] == 0


def test_a_group_is_paused_for_one_user_or_by_an_administrator_for_all(face: Face) -> None:
    task = face.submit()
    assert face.post("/v1/groups/local:pause").json() == {"project": None, "group": "local", "paused": True}
    assert explained(face, task)["next"] == "Let it go on with `simyard groups resume local`."
    face.post("/v1/groups/local:resume", key=face.add_key("bob"))
    assert face.store.rules(face.clock.now).pauses == {Pause(user="ada", group="local")}
    face.store.pause(Pause(group="local"))
    face.post("/v1/groups/local:resume")
    told = explained(face, task)
    assert "paused for everybody" in str(told["summary"])
    assert told["next"] == "An administrator has paused it."


def test_a_quota_that_is_used_up_is_explained(face: Face) -> None:
    running, task = face.submit(), face.submit()
    face.run(running)
    face.store.set_quota(Quota(user="ada", running=1))
    told = explained(face, task)
    assert "The quota of ada is 1 running tasks, and 1 run." in str(told["summary"])
    assert "administrator sets the quota" in str(told["next"])


def test_a_quota_that_a_whole_machine_is_too_large_for_is_explained(face: Face) -> None:
    face.groups = (MachineGroup(name="local", machines=(machine(cpus=4),)),)
    task = face.post("/v1/tasks", json=face.spec(resources={"whole_machine": True})).json()["id"]
    face.store.set_quota(Quota(user="ada", cpus=3))
    assert "it asks for 4" in str(explained(face, task)["summary"])


def test_the_projects_that_have_something_to_tell_are_listed(face: Face) -> None:
    running = face.submit(project="b")
    face.run(running)
    face.submit(project="a")
    face.post("/v1/projects/c:pause")
    face.store.set_quota(Quota(user="ada", project="b", cpus=8))
    found = {one["name"]: one for one in face.get("/v1/projects").json()["projects"]}
    assert list(found) == ["a", "b", "c"]
    assert [(one["queued"], one["running"], one["paused"]) for one in found.values()] == [
        (True, 0, False),
        (False, 1, False),
        (False, 0, True),
    ]
    assert (found["b"]["cpus"], found["b"]["cpus_quota"], found["b"]["running_quota"]) == (1.0, 8.0, None)
    assert face.get("/v1/projects", key=face.add_key("bob")).json() == {"projects": []}


def test_what_a_project_has_stored_is_listed_and_a_full_storage_is_explained(face: Face) -> None:
    old = face.submit(project="a")
    face.run(old)
    outcome = Outcome(status=Status.SUCCEEDED, stored=True, output_bytes=2048)
    face.store.apply(old, End(1, outcome), face.clock.now)
    face.store.set_quota(Quota(user="ada", project="a", storage=1024))
    [found] = face.get("/v1/projects").json()["projects"]
    assert (found["name"], found["stored"], found["storage_quota"], found["queued"]) == ("a", 2048, 1024, False)
    told = explained(face, face.submit(project="a"))
    assert "1 KiB of stored outputs, and 2 KiB are stored" in str(told["summary"])
    assert "remove-outputs" in str(told["next"])


def test_what_a_project_costs_is_listed_and_a_quota_of_cost_that_is_used_up_is_explained(face: Face) -> None:
    old, running = face.submit(project="a"), face.submit(project="a")
    for task in (old, running):
        lease = face.clock.now + timedelta(seconds=30)
        stimulus = Dispatch("m1", "holder", RuntimeName.NATIVE, lease, usd_per_hour=3.6)
        face.store.apply(task, stimulus, face.clock.now)
    face.clock.now += timedelta(seconds=1000)
    face.store.apply(old, End(1, Outcome(status=Status.SUCCEEDED, stored=True)), face.clock.now)
    assert face.get(f"/v1/tasks/{old}").json()["cost_usd"] == pytest.approx(1.0)
    assert face.get(f"/v1/tasks/{running}").json()["cost_usd"] is None
    face.clock.now += timedelta(seconds=1000)
    face.store.set_quota(Quota(user="ada", project="a", usd_per_month=3.0, usd_per_hour=4.0))
    [found] = face.get("/v1/projects").json()["projects"]
    assert (found["usd_per_hour"], found["usd_per_hour_quota"]) == (3.6, 4.0)
    assert (found["usd_this_month"], found["usd_per_month_quota"]) == (pytest.approx(3.0), 3.0)
    told = explained(face, face.submit(project="a"))
    assert "3.00 USD a month, and 3.00 USD are spent this month." in str(told["summary"])
    assert "next month" in str(told["next"])
    assert (told["position"], told["expected_start"]) == (None, None)
    face.store.set_quota(Quota(user="ada", project="a", usd_per_hour=4.0))
    sold = Sold(group="local", offers=Room(cpus=1, memory=2**40), usd_per_hour=0.5)
    face.prices = Prices(machines={"local": sold})
    told = explained(face, face.submit(project="a"))
    assert "4.00 USD an hour, what runs costs 3.60 USD, and it may cost 0.50 USD." in str(told["summary"])
    assert "once enough of what runs has ended" in str(told["next"])


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_cannot_be_paused_is_refused(face: Face, verb: str) -> None:
    problem(face.post(f"/v1/projects/%20:{verb}"), 422, "project")
    assert "local" in problem(face.post(f"/v1/groups/nowhere:{verb}"), 404, "group")["fix"]
    problem(face.post(f"/v1/projects/p:{verb}", key=None), 401)
