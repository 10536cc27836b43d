"""A task over several machines on a real server: all of them or none, one container on each, and nothing left."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import psutil
import pytest

from simyard.resources import MIB
from tests.leftovers import nothing_left, processes_of
from tests.running_server import RunningServer, until
from tests.services.second_machine import can_have_another_name, second_machine

NAME = "another-machine"
_SCRIPT = """
"$SIMYARD_LAUNCH" machine-1 'echo "there $WORD"; echo complaint >&2; cat in.txt; hostname > there.txt; exit 7'
echo "status $?"
cat "$SIMYARD_HOSTFILE"
hostname > here.txt
"""
_LONG = '"$SIMYARD_LAUNCH" machine-1 "echo begun; touch begun; sleep 986543" & sleep 986543'


def submit(server: RunningServer, script: str, **more: Any) -> str:
    command = {"argv": ["sh", "-c", script], "environment": {"WORD": "it's a $word"}}
    need = {"cpus": 0.5, "memory": "256MiB", "machines": 2}
    [task] = server.submit(commands=[command], runtime=None, resources=need, **more)
    return task


def sleepers() -> list[psutil.Process]:
    """Return the processes of the long task's containers, and what leads there."""
    found = []
    for process in psutil.process_iter():
        try:
            if "986543" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.podman
@pytest.mark.images
@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_have_another_name(), reason="unshare --uts is not permitted here")
def test_a_task_over_two_machines_launches_on_the_other_one_and_leaves_nothing(
    server: RunningServer, images: None
) -> None:
    with second_machine(server, cpus=1, memory=1536 * MIB, name=NAME) as raylet:
        task = submit(server, _SCRIPT)
        [ended] = server.ended(task)
        assert ended["status"] == "succeeded", server.simyard("tasks", "logs", task).stdout
        [attempt] = ended["attempts"]
        assert NAME in {attempt["machine"], *attempt["others"]}
        told = server.simyard("tasks", "logs", task)
        assert told.stdout == "there it's a $word\ninput\nstatus 7\nmachine-0 slots=1\nmachine-1 slots=1\n"
        files = json.loads(server.simyard("tasks", "files", task, "--json").stdout)["files"]
        assert {file["path"] for file in files} >= {"here.txt", "there.txt"}

        cancelled = submit(server, _LONG)
        until(lambda: len(sleepers()) >= 2, what="the processes on both machines")
        with server.http() as http:
            assert http.post(f"/v1/tasks/{cancelled}:cancel").is_success
        assert server.ended(cancelled)[0]["status"] == "cancelled"
        until(lambda: not sleepers(), what="the end of all of its processes")

        lost = submit(server, _LONG)
        until(lambda: len(sleepers()) >= 2, what="the processes on both machines")
        for process in (raylet, *raylet.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        until(lambda: server.task(lost)["attempts"][0]["reason"], 120, what="the end of the attempt")
        told = server.task(lost)
        assert told["attempts"][0]["reason"]["code"] == "machine-lost"
        assert told["status"] == "queued"
        until(lambda: not sleepers(), 90, what="the end of all of its processes")
    assert "2 machines" in server.simyard("tasks", "explain", lost).stdout
    with server.http() as http:
        assert http.post(f"/v1/tasks/{lost}:cancel").is_success
    server.ended(lost)
    nothing_left(server, task, cancelled)
    # The folder and the engine's record of a machine that has gone have gone with it; here they are this host's own.
    until(lambda: not processes_of(lost), 90, what="the end of all of its processes")
