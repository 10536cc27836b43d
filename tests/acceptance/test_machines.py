"""A machine on which everything fails, beside one that is well, on a real server."""

from __future__ import annotations

import pytest

from simyard.resources import MIB
from tests.leftovers import nothing_left
from tests.running_server import RunningServer, until
from tests.services.second_machine import NAME, can_have_another_name, machines_of, second_machine


@pytest.mark.skipif(not can_have_another_name(), reason="unshare --uts is not permitted here")
def test_a_machine_on_which_different_tasks_fail_at_once_is_set_aside_and_they_go_back_without_charge(
    server: RunningServer,
) -> None:
    where = ("sh", "-c", f"hostname; [ $(hostname) != {NAME} ]")
    [well] = server.submit(where)
    assert server.ended(well)[0]["status"] == "succeeded"
    # What fits on the smaller machine is placed there first, and no warm actor elsewhere is of this kind.
    with second_machine(server, cpus=1, memory=1536 * MIB):
        tasks = list[str]()
        while machines_of(server)[NAME]["set_aside_until"] is None:
            assert len(tasks) < 30
            more = server.submit(where, count=5, retries=10, resources={"cpus": 0.2, "memory": "256MiB"})
            assert {task["status"] for task in server.ended(*more)} == {"succeeded"}
            tasks += more
        failed = [task for task in map(server.task, tasks) if len(task["attempts"]) > 1]
        assert len(failed) >= 3
        for task in failed:
            *_, before, last = task["attempts"]
            assert (before["machine"], before["exit_code"]) == (NAME, 1)
            assert last["machine"] != NAME
            assert before["is_forgiven"] or before["reason"]["evidence"]["set_aside"] == NAME
            assert "was set aside" in server.simyard("tasks", "explain", task["id"]).stdout
        assert f"{NAME} (set aside until " in server.simyard("groups", "list").stdout
        # One that waits meanwhile hears of it.
        most = max(machine["cpus"] for machine in machines_of(server).values())
        blocker, waiting = (
            server.submit(("sleep", "600"), resources={"cpus": amount, "memory": "256MiB"})[0] for amount in (most, 1)
        )
        until(lambda: server.task(blocker)["status"] == "running", what="the blocker")
        assert f"{NAME} is set aside until " in server.simyard("tasks", "explain", waiting).stdout
        for task in (blocker, waiting):
            assert server.simyard("tasks", "cancel", task).returncode == 0
        server.ended(blocker, waiting)
    nothing_left(server, well, *tasks, blocker, waiting)
