"""The client of the release before this one, as it was shipped, at work with the server of this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running_server import RunningServer

ROOT = Path(__file__).parents[2]
[WHEEL] = (ROOT / "tests" / "releases" / "previous").glob("simyard-*.whl")
SWMM = str(ROOT / "simulators" / "swmm" / "example")
SWEEP = str(ROOT / "simulators" / "swmm" / "example-sweep")
INPUT = ("-p", "input_file=model.inp")

_PYTHON = """
import json, sys
import simyard
with simyard.Client() as client:
    task = client.run("swmm", sys.argv[1], parameters={"input_file": "model.inp"}, retries=1, limits={"run": "5m"})
    task.wait(120)
    events = [event.kind.value for event in task.events()]
    rows = task.table("summary").num_rows
    results = client.submit_many([simyard.TaskSpec(**json.loads(sys.argv[2]))])
    print(json.dumps([simyard.__file__, task.status.value, events, rows, str(type(results[0]).__name__)]))
"""


class Previous:
    """The previous release's client, run from its wheel."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self._folder = folder
        self._environment = server.environment | {"PYTHONPATH": str(WHEEL)}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def simyard(self, *arguments: str) -> str:
        done = self.python("-m", "simyard", *arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.simyard(*arguments, "--json"))


@pytest.fixture
def previous(server: RunningServer, tmp_path: Path) -> Previous:
    return Previous(server, tmp_path)


def test_its_command_line_runs_a_task_from_folder_to_results(previous: Previous, tmp_path: Path) -> None:
    task = previous.json("run", "swmm", SWMM, *INPUT, "--wait", "--download", "results")
    assert task["status"] == "succeeded"
    assert {file.name for file in (tmp_path / "results").iterdir()} >= {"model.out", "model.rpt"}
    assert task["id"] in {one["id"] for one in previous.json("tasks", "list", "--all")["tasks"]}
    assert previous.json("tasks", "info", task["id"])["attempts"][0]["exit_code"] == 0
    assert previous.json("tasks", "explain", task["id"])["status"] == "succeeded"
    assert previous.simyard("tasks", "logs", task["id"], "--follow")
    assert previous.json("tasks", "files", task["id"])["files"]
    assert previous.json("groups", "list")
    assert previous.json("simulators", "info", "swmm")["name"] == "swmm"


def test_its_python_runs_tasks(previous: Previous) -> None:
    done = previous.python("-c", _PYTHON, SWMM, json.dumps({"simulator": "swmm", "inputs": [_FILE]}))
    assert done.returncode == 0, done.stderr
    where, status, events, rows, refused = json.loads(done.stdout)
    assert where.startswith(str(WHEEL))
    assert (status, rows, refused) == ("succeeded", 1, "InvalidInput")
    assert events[:2] == ["submitted", "status"]


_FILE = {"path": "model.inp", "sha256": "0" * 64, "size": 1}


def test_its_sweeps_run_and_its_tasks_end_when_it_says_so(previous: Previous, tmp_path: Path) -> None:
    sweep = previous.json(
        "sweep",
        "swmm",
        SWEEP,
        *INPUT,
        "--grid",
        "rain=0.8,1",
        "--grid",
        "diameter=1",
        "--wait",
        "--out",
        "summary=summary.csv",
    )
    assert (sweep["cases"], sweep["counts"]["succeeded"]) == (2, 2)
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 3
    task = previous.json("run", "swmm", SWMM, "-c", "sleep 600")
    previous.simyard("tasks", "cancel", task["id"])
    done = previous.python("-m", "simyard", "tasks", "wait", task["id"], "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, "cancelled")


def test_it_reads_a_task_that_has_what_it_does_not_know(
    previous: Previous, server: RunningServer, tmp_path: Path
) -> None:
    first = previous.json("run", "swmm", SWMM, *INPUT, "--wait")["id"]
    done = server.simyard("run", "swmm", SWMM, *INPUT, "--reuse", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    reused = json.loads(done.stdout)
    assert reused["reused_from"] is not None
    for task in (first, reused["id"]):
        previous.simyard("tasks", "download", task, task)
        assert (tmp_path / task / "model.rpt").stat().st_size > 0
    assert previous.json("tasks", "info", reused["id"])["status"] == "succeeded"
