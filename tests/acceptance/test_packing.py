"""Tasks that ask for a machine of their own, or for a part of its disk, on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simyard.resources import GIB, MIB
from tests.leftovers import nothing_left
from tests.running_server import RunningServer, until

_WAITS = """
import os, time
print(os.environ['OMP_NUM_THREADS'], flush=True)
while not os.path.exists('go'): time.sleep(0.05)
""".strip()


class Yard:
    """A user with a task that waits for a word, and a look at the server's machine."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.case = folder / "case"
        self.case.mkdir()
        (self.case / "in.txt").write_text("input\n")
        self.tasks: list[str] = []

    def run(self, *words: str, command: str = "true", exits: int = 0) -> str:
        """Run `simyard run` with these words; return the task's id, or what was said where it is refused."""
        done = self.server.simyard("run", "swmm", str(self.case), "-c", command, "--json", *words)
        assert done.returncode == exits, done.stderr
        if exits:
            return done.stderr
        task: str = json.loads(done.stdout)["id"]
        self.tasks.append(task)
        return task

    def start(self, *words: str) -> str:
        """Start a task that waits, and return its id once it runs."""
        task = self.run(*words, command=f'python -c "{_WAITS}"')
        until(lambda: self.server.task(task)["status"] == "running", what="the task that waits")
        return task

    def let_go(self, task: str) -> dict[str, Any]:
        """Let a task that waits go on, and return it at its end."""
        (self.server.data_dir / "scratch" / f"simyard-{task}-1" / "work" / "go").touch()
        [ended] = self.server.ended(task)
        return ended

    def machine(self) -> dict[str, Any]:
        [group] = json.loads(self.server.simyard("groups", "list", "--json").stdout)["groups"]
        [machine] = group["machines"]
        return dict(machine)

    def said(self, *words: str) -> str:
        done = self.server.simyard(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def yard(server: RunningServer, tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(server, tmp_path)
    yield yard
    nothing_left(server, *yard.tasks)


def test_a_task_with_a_machine_for_itself_gets_all_of_it_and_nothing_else_runs_there(yard: Yard) -> None:
    whole = yard.start("--whole-machine")
    machine = yard.machine()
    assert (machine["cpus_free"], machine["memory_free"]) == (0, 0)
    small = yard.run("--cpus", "0.01", "--memory", "16MiB")
    until(lambda: "is taken now" in yard.said("tasks", "explain", small), what="the small task's reason to wait")
    second = yard.run("--whole-machine")
    assert "asks for a whole machine" in yard.said("tasks", "explain", second)
    ended = yard.let_go(whole)
    assert (ended["status"], ended["resources"]["whole_machine"]) == ("succeeded", True)
    assert (ended["resources"]["cpus"], ended["resources"]["memory"]) == (machine["cpus"], machine["memory"])
    assert yard.said("tasks", "logs", whole).split() == [f"{machine['cpus']:.0f}"], "what its commands were told"
    assert [task["status"] for task in yard.server.ended(small, second)] == ["succeeded"] * 2
    refused = yard.run("--whole-machine", "--cpus", "2", exits=2)
    assert "resources.cpus" in refused
    assert "Leave cpus out" in refused


def test_disk_that_is_asked_for_is_kept_and_what_nobody_has_is_refused(yard: Yard) -> None:
    has = yard.machine()["disk"]
    assert has > 0, "these tests need a disk that is less than nine tenths full"
    asked = has - 300 * MIB
    first = yard.start("--cpus", "0.1", "--disk", str(asked))
    assert yard.machine()["disk_free"] == 300 * MIB
    second = yard.run("--cpus", "0.1", "--memory", "64MiB", "--disk", "400MiB")
    plain = yard.run("--cpus", "0.1", "--memory", "64MiB")
    hint = "asks for 0.1 cpus, 64 MiB and 400 MiB of disk"
    until(lambda: hint in yard.said("tasks", "explain", second), what="the second task's reason to wait")
    assert yard.let_go(first)["status"] == "succeeded"
    assert [task["status"] for task in yard.server.ended(second, plain)] == ["succeeded"] * 2
    refused = yard.run("--disk", str(has + GIB), exits=2)
    assert "resources.disk" in refused
    assert "choose another group" in refused
