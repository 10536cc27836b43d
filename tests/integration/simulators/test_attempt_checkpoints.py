"""What an attempt keeps for the next one, and how that goes on from it, with real processes and without Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from simulators import attempt as module
from simulators.work import NoSnapshot
from simyard.checkpoint import Checkpoint, Snapshot
from simyard.reason import ReasonCode
from simyard.simulator import Command
from simyard.status import Status
from storage.inputs import put_input
from storage.snapshots import complete_snapshots, put_snapshot
from tests.integration.simulators.test_attempt import SPEC, TASK, Bench, in_thread, until

RESUME = Command(argv=("sh", "-c", "cat state > result.csv; echo on"))
RULE = Checkpoint(files=("state", "deep/**"), resume=(RESUME,))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module.catalogue, "find", lambda name: SPEC)
    return Bench(tmp_path)


def kept(bench: Bench, tmp_path: Path, text: str, attempt: int, number: int) -> Snapshot:
    """Put a snapshot into the storage, as an attempt would have."""
    folder = tmp_path / f"kept-{attempt}-{number}"
    folder.mkdir()
    (folder / "state").write_text(text)
    return put_snapshot(bench.store, TASK, attempt, number, folder)


def test_a_run_that_is_killed_leaves_its_newest_snapshot_and_the_next_attempt_goes_on(bench: Bench) -> None:
    script = "echo 41 > state; mkdir deep; echo x > deep/x; echo $$ > pid; sleep 600"
    run = bench.make(Command(argv=("sh", "-c", script)), checkpoint=RULE)
    carried = in_thread(run.carry)
    assert bench.desk.running.wait(20)
    until(lambda: run.execution.list_files() and "pid" in {file[0] for file in run.execution.list_files() if file[1]})
    made = run.checkpoint(30)
    assert (made.attempt, made.number, made.files) == (1, 1, 2)
    os.kill(int(run.execution.read_file("pid", 0, 99)), signal.SIGKILL)
    carried.join(30)
    assert bench.desk.outcome is not None and bench.desk.outcome.reason is not None
    assert bench.desk.outcome.reason.code is ReasonCode.SIGNAL
    assert complete_snapshots(bench.store, TASK) == [(1, 1)]

    bench.make(Command(argv=("false",)), checkpoint=RULE, attempt=2).carry()
    assert bench.desk.outcome.status is Status.SUCCEEDED
    assert bench.output("result.csv", 2) == b"41\n"
    assert bench.output("state", 2) == b"41\n", "what came from the snapshot is an output, as in an unbroken run"
    assert [(news.made, news.resumed_from) for news in bench.desk.news] == [(made, None), (None, made)]
    assert list(bench.scratch.iterdir()) == []


def test_without_commands_to_resume_with_the_same_ones_run_again(bench: Bench, tmp_path: Path) -> None:
    kept(bench, tmp_path, "40", 1, 1)
    rule = Checkpoint(files=("state",))
    bench.make(Command(argv=("sh", "-c", "cat state 'in put.txt' > seen")), checkpoint=rule, attempt=2).carry()
    assert bench.output("seen", 2) == b"4041\n"


def test_a_snapshot_that_is_damaged_gives_way_to_the_one_before_it(bench: Bench, tmp_path: Path) -> None:
    kept(bench, tmp_path, "old", 1, 1)
    kept(bench, tmp_path, "new", 1, 2)
    bench.store.put(f"tasks/{TASK}/1/snapshots/000002/pack-0000.zip", b"rubbish")
    bench.make(Command(argv=("false",)), checkpoint=RULE, attempt=2).carry()
    assert bench.output("result.csv", 2) == b"old"
    assert "Snapshot 2 of attempt 1 cannot be read" in bench.desk.news[0].message
    assert bench.desk.news[1].resumed_from is not None
    assert bench.desk.news[1].resumed_from.number == 1


def test_where_no_snapshot_can_be_read_it_begins_with_its_inputs_alone(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "state").write_text("good")
    (folder / "in put.txt").write_text("changed by the simulation")
    put_snapshot(bench.store, TASK, 1, 1, folder)
    key = f"tasks/{TASK}/1/snapshots/000001/pack-0000.zip"
    whole = bench.store.get(key)
    place = whole.index(b"good")
    bench.store.put(key, whole[:place] + b"evil" + whole[place + 4 :])
    rule = Checkpoint(files=("**",), resume=RULE.resume)
    bench.make(Command(argv=("sh", "-c", "ls; cat 'in put.txt'")), checkpoint=rule, attempt=2).carry()
    assert bench.desk.outcome is not None and bench.desk.outcome.status is Status.SUCCEEDED
    assert bench.output(".simyard/stdout.log", 2) == b"in put.txt\n41\n", "nothing of the broken one is left"
    assert "inputs alone" in bench.desk.news[-1].message


def test_a_first_attempt_has_nothing_to_go_on_from(bench: Bench) -> None:
    bench.make(Command(argv=("true",)), checkpoint=RULE).carry()
    assert bench.desk.news == []


def test_a_task_without_restart_files_says_so(bench: Bench) -> None:
    run = bench.make(Command(argv=("true",)))
    with pytest.raises(NoSnapshot, match="no restart files"):
        run.checkpoint(1)
    run.carry()


def test_a_snapshot_stands_over_the_inputs(bench: Bench, tmp_path: Path) -> None:
    content = b"from the start"
    sha256 = put_input(bench.store, content)
    changes = {"path": "state", "sha256": sha256, "size": len(content)}
    bench.inputs = (bench.inputs[0].model_copy(update=changes),)
    kept(bench, tmp_path, "from the snapshot", 1, 1)
    bench.make(Command(argv=("false",)), checkpoint=RULE, attempt=2).carry()
    assert bench.output("result.csv", 2) == b"from the snapshot"
