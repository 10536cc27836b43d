"""A machine on which everything fails, beside one that is well, on a real server."""

from __future__ import annotations

from typing import Any

import pytest

from simyard.resources import MIB
from tests.leftovers import nothing_left
from tests.running_server import RunningServer, until
from tests.services.second_machine import NAME, can_have_another_name, machines_of, second_machine


def explained(server: RunningServer, task: str) -> dict[str, Any]:
    with server.http() as http:
        told: dict[str, Any] = http.get(f"/v1/tasks/{task}/explain").json()
    return told


@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_have_another_name(), reason="unshare --uts is not permitted here")
def test_a_machine_on_which_different_tasks_fail_at_once_is_set_aside_and_they_go_back_without_charge(
    server: RunningServer,
) -> None:
    where = ("sh", "-c", f"hostname; [ $(hostname) != {NAME} ]")
    [well] = server.submit(where)
    assert server.ended(well)[0]["status"] == "succeeded"
    with second_machine(server, cpus=1, memory=1536 * MIB):
        # Once it has the environment, too, what fits on the smaller machine is placed there first; and the one warm
        # actor of this kind is there.
        most = max(machine["cpus"] for machine in machines_of(server).values())
        [full] = server.submit(("sleep", "600"), resources={"cpus": most, "memory": "256MiB"})
        until(lambda: server.task(full)["status"] == "running", what="the other machine's being full")
        [ready] = server.submit(("true",), resources={"cpus": 0.2, "memory": "256MiB"})
        assert server.ended(ready)[0]["attempts"][-1]["machine"] == NAME
        with server.http() as http:
            assert http.post(f"/v1/tasks/{full}:cancel").is_success
        server.ended(full)
        tasks = list[str]()
        while machines_of(server)[NAME]["set_aside_until"] is None:
            assert len(tasks) < 30
            more = server.submit(where, count=5, retries=10, resources={"cpus": 0.2, "memory": "256MiB"})
            assert {task["status"] for task in server.ended(*more, seconds=300)} == {"succeeded"}
            tasks += more
        failed = [task for task in map(server.task, tasks) if len(task["attempts"]) > 1]
        assert len(failed) >= 3
        last_there = {task["id"]: task["attempts"][-2] for task in failed}
        assert {(attempt["machine"], attempt["exit_code"]) for attempt in last_there.values()} == {(NAME, 1)}
        assert NAME not in {task["attempts"][-1]["machine"] for task in failed}
        sent_back = [a for a in last_there.values() if a["reason"]["evidence"].get("set_aside") == NAME]
        since = min(attempt["ended_at"] for attempt in sent_back)
        for task in failed:
            # One that had ended before, elsewhere, has paid.
            if task["ended_at"] > since:
                assert last_there[task["id"]] in sent_back or last_there[task["id"]]["is_forgiven"]
                assert "was set aside" in str(explained(server, task["id"]))
        assert "(set aside until " in server.simyard("groups", "list").stdout
        # One that waits meanwhile hears of it.
        blocker, waiting = (
            server.submit(("sleep", "600"), resources={"cpus": amount, "memory": "256MiB"})[0] for amount in (most, 1)
        )
        until(lambda: server.task(blocker)["status"] == "running", what="the blocker")
        assert f"{NAME} is set aside until " in server.simyard("tasks", "explain", waiting).stdout
        with server.http() as http:
            assert all(http.post(f"/v1/tasks/{task}:cancel").is_success for task in (blocker, waiting))
        server.ended(blocker, waiting)
    nothing_left(server, well, full, ready, *tasks, blocker, waiting)
