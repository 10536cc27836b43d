"""Limits and retries as a user asks for them, on a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.leftovers import nothing_left
from tests.running_server import RunningServer, until


class Desk:
    """A user with a folder of inputs."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.case = folder / "my case"
        self.case.mkdir()
        (self.case / "in.txt").write_text("input\n")
        self.tasks: list[str] = []

    def run(self, *words: str, exits: int = 0) -> dict[str, Any]:
        """Run `simyard run --json` with these words, and return the task."""
        done = self.ask("run", "swmm", str(self.case), "--cpus", "0.25", "--memory", "128MiB", "--json", *words)
        assert done.returncode == exits, done.stderr
        task: dict[str, Any] = json.loads(done.stdout)
        self.tasks.append(task["id"])
        return task

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.server.simyard(*words)

    def said(self, *words: str) -> str:
        done = self.ask(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def notes(self, task: str) -> list[str]:
        with self.server.http() as http:
            answer = http.get(f"/v1/tasks/{task}/events", headers={"Accept": "application/json"})
        return [event["message"] for event in answer.json()["events"] if event["kind"] == "note"]


@pytest.fixture
def desk(server: RunningServer, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(server, tmp_path)
    yield desk
    nothing_left(server, *desk.tasks)


def test_a_task_that_finds_no_place_within_its_queue_limit_ends_and_says_so(desk: Desk) -> None:
    cpus = str(
        sum(m["cpus"] for g in json.loads(desk.said("groups", "list", "--json"))["groups"] for m in g["machines"])
    )
    blocker = desk.run("-c", "sleep 600", "--cpus", cpus)["id"]
    until(lambda: desk.server.task(blocker)["status"] == "running", what="the blocker")
    task = desk.run("-c", "true", "--queue-limit", "1s", "--wait", exits=1)
    assert (task["status"], task["reason"]["code"]) == ("timed-out", "time-limit")
    assert task["reason"]["evidence"] == {"limit": "queue", "seconds": 1.0}
    assert (task["attempts"], task["result"]) == ([], None)
    told = desk.said("tasks", "explain", task["id"])
    assert "limit queue, seconds 1" in told
    patient = desk.run("-c", "true", "--queue-limit", "1h")["id"]
    desk.said("tasks", "cancel", blocker)
    [ended] = desk.server.ended(patient)
    assert ended["status"] == "succeeded"
    assert "1 h in the queue" in desk.said("tasks", "info", patient)


def test_a_task_that_gives_no_output_says_so_once_and_goes_on(desk: Desk) -> None:
    script = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)"
    task = desk.run("-c", f'python -c "{script}"', "--stall-limit", "1s")["id"]
    until(lambda: desk.notes(task), what="a note of the stall")
    [root] = (desk.server.data_dir / "scratch").glob(f"simyard-{task}-1")
    (root / "work" / "go").touch()
    [ended] = desk.server.ended(task)
    assert (ended["status"], ended["attempts"][0]["stalls"]) == ("succeeded", len(desk.notes(task)))
    assert "no output for 1 s" in desk.said("tasks", "explain", task)


def test_a_task_that_gives_no_output_is_ended_where_its_user_wants_that(desk: Desk) -> None:
    words = ("-c", "sleep 600", "--stall-limit", "1s", "--end-stalled", "--wait")
    task = desk.run(*words, exits=1)
    assert (task["status"], task["reason"]["code"]) == ("timed-out", "time-limit")
    assert task["reason"]["evidence"] == {"limit": "stall", "seconds": 1.0}
    assert task["result"] == 1


def test_only_the_exit_codes_that_were_named_are_tried_again_and_the_last_lines_are_kept(desk: Desk) -> None:
    script = "import sys; print('reading mesh'); print('no licence', file=sys.stderr); sys.exit(%d)"
    again = ("--retries", "1", "--retry-on", "exit-code:75", "--retry-on", "signal", "--wait")
    task = desk.run("-c", f'python -c "{script % 75}"', *again, exits=1)
    assert [(a["exit_code"], a["stderr_tail"]) for a in task["attempts"]] == [(75, "no licence")] * 2
    assert all(a["machine"] for a in task["attempts"])
    info = desk.said("tasks", "info", task["id"])
    assert "The last of attempt 1 on standard error:\n  no licence" in info
    assert "The last of attempt 2 on standard output:\n  reading mesh" in info
    told = desk.said("tasks", "explain", task["id"])
    assert told.count("It printed last: no licence") == 2
    assert "tried again, 1 of 1" in told
    other = desk.run("-c", f'python -c "{script % 3}"', *again, exits=1)
    assert len(other["attempts"]) == 1
    assert "not tried again" in desk.said("tasks", "explain", other["id"])


def test_a_task_out_of_memory_gets_more_where_its_user_allows_it(desk: Desk) -> None:
    script = "import time; x = b'x' * 160_000_000; time.sleep(3)"
    words = ("-c", f'python -c "{script}"', "--retries", "1", "--retry-memory", "512MiB", "--wait")
    task = desk.run(*words)
    assert task["status"] == "succeeded"
    assert [a["reason"] and a["reason"]["code"] for a in task["attempts"]] == ["out-of-memory", None]
    evidence = task["attempts"][0]["reason"]["evidence"]
    assert evidence["peak_memory"] > 0.9 * evidence["limit"]
    assert task["resources"]["memory"] == 2 * evidence["limit"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--queue-limit=-1",), "limits.queue"),
        (("--staging-limit", "0"), "limits.staging"),
        (("--upload-limit", "soon"), "limits.upload"),
        (("--stall-limit", "5 parsecs"), "limits.stall"),
        (("--end-stalled",), "give `stall`"),
        (("--retry-on", "signal"), "number of retries"),
        (("--retries", "1", "--retry-on", "out-of-memry"), "out-of-memory"),
        (("--retries", "1", "--retry-on", "exit-code:999"), "1 to 255"),
        (("--retries", "1", "--retry-memory", "16MiB"), "no more than"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(desk: Desk, words: tuple[str, ...], says: str) -> None:
    done = desk.ask("run", "swmm", str(desk.case), "-c", "true", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
