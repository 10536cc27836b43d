from __future__ import annotations

from pathlib import Path

from simyard.status import Status
from simyard.task import Explanation
from tests.unit.serve.face import Face, problem


def test_pages_give_every_task_once_newest_first(face: Face) -> None:
    submitted = [face.submit(name=f"n{i}") for i in range(7)]
    seen: list[str] = []
    url = "/v1/tasks?limit=3"
    pages = 0
    while True:
        page = face.get(url).json()
        seen += [task["id"] for task in page["tasks"]]
        pages += 1
        if page["cursor"] is None:
            break
        face.submit(name="newer")
        url = f"/v1/tasks?limit=3&cursor={page['cursor']}"
    assert seen == submitted[::-1]
    assert pages == 3


def test_filters_hold_together_and_several_statuses_merge_by_age(face: Face) -> None:
    first, second, third, fourth = (
        face.submit(name="storm" if i != 1 else "dry", project=f"p{i % 2}") for i in range(4)
    )
    face.run(second)
    face.post(f"/v1/tasks/{third}:cancel")

    def ids(query: str) -> list[str]:
        return [task["id"] for task in face.get(f"/v1/tasks?{query}").json()["tasks"]]

    assert ids("status=queued,cancelled") == [fourth, third, first]
    assert ids("status=running, queued&limit=2") == [fourth, second]
    assert ids("name=storm&project=p0") == [third, first]
    assert ids("simulator=swmm&group=local") == [fourth, third, second, first]
    assert ids("simulator=other") == []


def test_tasks_are_listed_by_their_ids(face: Face) -> None:
    first, second, third = (face.submit() for _ in range(3))

    def ids(query: str) -> list[str]:
        return [task["id"] for task in face.get(f"/v1/tasks?{query}").json()["tasks"]]

    assert ids(f"ids={first},{third}") == [third, first]
    assert ids(f"ids= {second} ,{second},t000000000000,nonsense,,'") == [second]
    assert ids("ids=") == []
    assert len(ids("ids=" + ",".join([first] * 199 + [second]))) == 2


def test_other_users_tasks_are_not_listed_by_their_ids(face: Face) -> None:
    mine = face.submit()
    assert face.get(f"/v1/tasks?ids={mine}", key=face.add_key("bob")).json()["tasks"] == []


def test_ids_are_few_and_stand_alone(face: Face) -> None:
    task = face.submit()
    assert "names 201 tasks" in problem(face.get("/v1/tasks?ids=" + ",".join([task] * 201)), 422, "ids")["detail"]
    for other in ("status=queued", "sweep=s", "cursor=x", "name=a"):
        assert "stands alone" in problem(face.get(f"/v1/tasks?ids={task}&{other}"), 422, "ids")["detail"]


def test_cancelling_is_taken_up_and_doing_it_again_changes_nothing(face: Face) -> None:
    task = face.submit()
    for _ in range(2):
        answer = face.post(f"/v1/tasks/{task}:cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    running = face.submit()
    face.run(running)
    answer = face.post(f"/v1/tasks/{running}:cancel")
    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("running", True)
    assert face.waker.count == 5


def test_a_task_that_has_ended_stays_as_it_is(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    face.finish(task, tmp_path, {"a": b""})
    assert face.post(f"/v1/tasks/{task}:cancel").json()["status"] == "succeeded"


def test_an_explanation_tells_what_happened(face: Face) -> None:
    face.submit()
    task = face.submit()
    told = Explanation.model_validate_json(face.get(f"/v1/tasks/{task}/explain").content)
    assert told.status is Status.QUEUED
    assert "1 task" in told.summary
    face.run(task)
    face.lose(task)
    told = Explanation.model_validate_json(face.get(f"/v1/tasks/{task}/explain").content)
    assert any("machine went away" in line for line in told.details)


def test_simulators_and_groups_are_shown(face: Face) -> None:
    names = [simulator["name"] for simulator in face.get("/v1/simulators").json()["simulators"]]
    assert "swmm" in names
    assert face.get("/v1/simulators/swmm").json()["parameters"][0]["name"] == "input_file"
    assert "swmm" in problem(face.get("/v1/simulators/swm"), 404)["fix"]
    assert face.get("/v1/groups").json()["groups"][0]["machines"][0]["cpus"] == 4


def test_a_task_is_held_and_released(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    for _ in range(2):
        answer = face.post(f"/v1/tasks/{task}:hold")
        assert (answer.status_code, answer.json()["held"], answer.json()["reason"]["code"]) == (200, True, "held")
    told = face.get(f"/v1/tasks/{task}/explain").json()
    assert (told["position"], told["expected_start"]) == (None, None)
    woken = face.waker.count
    answer = face.post(f"/v1/tasks/{task}:release")
    assert (answer.json()["held"], answer.json()["reason"], face.waker.count) == (False, None, woken + 1)
    told = face.get(f"/v1/tasks/{task}/explain").json()
    assert told["position"] == 0
    assert told["expected_start"] is not None
    face.finish(task, tmp_path, {"a": b""})
    assert face.post(f"/v1/tasks/{task}:hold").json()["held"] is False
    bob = face.add_key("bob")
    for verb in ("hold", "release"):
        problem(face.post(f"/v1/tasks/{task}:{verb}", key=bob), 404, "task")
