"""A real simulator that is killed goes on from its newest snapshot, and gives the numbers of an unbroken run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil

from tests.leftovers import nothing_left
from tests.running_server import RunningServer, title_of, until

CASE = Path(__file__).parents[2] / "simulators" / "openseespy" / "example-restart"


def test_an_analysis_whose_actor_is_told_to_end_and_that_is_killed_gives_the_same_numbers(
    server: RunningServer, tmp_path: Path
) -> None:
    def run(*words: str) -> str:
        done = server.simyard("run", "openseespy", str(CASE), "--cpus", "0.25", "--json", *words, timeout=300)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["id"])

    whole = run("-p", "script=bar.py", "--wait", "--download", str(tmp_path / "whole"))
    assert server.task(whole)["checkpoint"]["files"] == ["restart/**"]
    # It stands still after its first saved state, as a longer analysis would be on its way to the next one.
    rule = ["--checkpoint", "restart/**", "--checkpoint-every", "1h", "--resume", "opensees bar.py"]
    task = run("-c", "opensees bar.py 600", *rule, "--retries", "1", "--retry-on", "signal")
    root = server.data_dir / "scratch" / f"simyard-{task}-1"
    until((root / "work" / "restart" / "state.json").exists, 200, what="a saved state")
    (actor,) = [p for p in server.processes("ray::") if holds(p, root / "lock")]
    actor.send_signal(signal.SIGTERM)
    until(lambda: server.task(task)["attempts"][0]["snapshot"], what="the snapshot of an actor that is told to end")
    until(lambda: server.task(task)["attempts"][0]["adoptions"], what="another actor")
    told = server.simyard("tasks", "checkpoint", task, "--json")
    assert told.returncode == 0, told.stderr
    asked = json.loads(told.stdout)
    assert (asked["attempt"], asked["files"]) == (1, len(list((root / "work" / "restart").iterdir())))
    (simulation,) = [p for p in psutil.process_iter() if "bar.py 600" in title_of(p) and task in p.cwd()]
    simulation.kill()
    [ended] = server.ended(task)
    assert (ended["status"], len(ended["attempts"])) == ("succeeded", 2)
    assert ended["attempts"][0]["reason"]["code"] == "signal"
    assert ended["attempts"][1]["resumed_from"] == asked
    assert server.simyard("tasks", "logs", task).stdout.startswith("goes on after step 200 of 2000\n")
    assert server.simyard("tasks", "download", task, str(tmp_path / "broken")).returncode == 0
    response = [(tmp_path / name / "response.csv").read_bytes() for name in ("whole", "broken")]
    assert response[0] == response[1]
    assert len(response[0].splitlines()) == 2001
    assert "It goes on from snapshot" in server.simyard("tasks", "explain", task).stdout
    assert "went on from snapshot" in server.simyard("tasks", "info", task).stdout
    nothing_left(server, whole, task)


def holds(process: psutil.Process, file: Path) -> bool:
    try:
        return any(Path(opened.path) == file for opened in process.open_files())
    except psutil.Error:
        return False
