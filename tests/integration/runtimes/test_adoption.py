"""A run outlives the process that carried it: another one takes it over where it stands, and nothing is done twice."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulators import attempt as module
from simulators import execution, supervisor
from simulators.errors import NotAdoptable, SupervisorLost
from simulators.execution import Execution
from simulators.outcome import Outcome
from simulators.runtimes import Running
from simulators.scratch import sweep
from simulators.work import Work
from simyard.event import LogStream
from simyard.files import InputFile
from simyard.resources import MIB, Limits, Resources
from simyard.simulator import RuntimeName
from simyard.status import Status
from simyard.words import new_task_id
from storage.errors import ObjectNotFound
from storage.inputs import put_input
from storage.manifest import read_manifest
from storage.objects import open_store
from storage.outcomes import read_outcome
from storage.paths import Paths
from storage.reader import read_entry
from tests.integration.runtimes.carrier import SPEC, Carrier, Desk, Made
from tests.integration.runtimes.conftest import Bench, call, sh, until

# It writes down that it began, and ends when it is told to.
SCRIPT = "echo began >> count; echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; echo 42 > result.csv"


class Scene:
    """One attempt, the processes that carry it, and what they leave."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        storage = (folder / "storage").as_uri()
        self.store = open_store(storage)
        content = b"input\n"
        file = InputFile(path="in put.txt", sha256=put_input(self.store, content), size=len(content))
        work = Work(
            task=new_task_id(),
            attempt=1,
            simulator="shell",
            version="1",
            runtime=bench.runtime.name,
            parameters={},
            commands=(sh(SCRIPT),),
            inputs=(file,),
            resources=Resources(memory=256 * MIB),
            limits=Limits(),
            project="default",
            storage=storage,
        )
        self.folder = folder
        self.carrier = Carrier(
            work=work,
            runtime=Made(bench.runtime.name, bench.prepared),
            scratch=folder / "scratch",
            desk=Desk(folder),
        )
        self.root = self.carrier.root
        self.running = Running.attach(self.root / "control")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **changes: Any) -> subprocess.Popen[bytes]:
        """Start a process that carries the attempt."""
        plan = self.folder / "carrier"
        plan.write_bytes(pickle.dumps(replace(self.carrier, **changes)))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.runtimes.carrier", str(plan)],
            env=os.environ | {"PYTHONPATH": ":".join(sys.path), "SIMYARD_DATA_DIR": str(self.folder / "data")},
            cwd=Path(__file__).parents[3],
        )
        self.processes.append(process)
        return process

    def begun(self, **changes: Any) -> subprocess.Popen[bytes]:
        """Start a process that carries the attempt, and return it when the commands run."""
        process = self.start(**changes)
        until(lambda: "running" in self.reports and self.out == b"one\n", "the commands")
        return process

    @property
    def reports(self) -> list[str]:
        return self.carrier.desk.reports

    @property
    def out(self) -> bytes:
        log = self.running.log(LogStream.STDOUT)
        return log.read_bytes() if log.exists() else b""

    def supervisor(self) -> tuple[int, int]:
        """Return the supervisor's process id and start."""
        pid = self.running.supervisor_pid()
        assert pid is not None
        found = supervisor.read_process(pid)
        assert found is not None
        return pid, found.start

    def go(self) -> None:
        """Let the commands end."""
        (self.root / "work" / "go").touch()

    def outcome(self) -> Outcome:
        return Outcome.model_validate_json(self.reports[-1])

    def output(self, path: str) -> bytes:
        task = self.carrier.work.task
        entries = {entry.path: entry for entry in read_manifest(self.store, task, 1)}
        return b"".join(read_entry(self.store, task, 1, entries[path]))

    def nothing_left(self) -> None:
        """Check that neither folder, process nor container of the attempt is left."""
        box = self.carrier.work.box
        assert not self.root.exists()
        until(lambda: not supervisor.marked("SIMYARD_BOX", box, supervisor.read_processes()), "the processes' end")
        engine = self.bench.runtime.name
        if engine is not RuntimeName.NATIVE:
            assert call(engine, "ps", "--all", "--quiet", "--filter", f"label=simyard={box}") == ""

    def no_result(self) -> None:
        """Check that nothing of the attempt can be seen as a result."""
        task = self.carrier.work.task
        with pytest.raises(ObjectNotFound):
            read_manifest(self.store, task, 1)
        assert self.store.head(Paths.table("result", "shell", "default", task)) is None

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        sweep(self.carrier.scratch, current=())


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def scene(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    yield from _scene(bench, tmp_path, monkeypatch)


@pytest.fixture
def plain(native: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A scene with plain processes, for what does not depend on the runtime."""
    yield from _scene(native, tmp_path, monkeypatch)


def _scene(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(module.catalogue, "find", lambda name: SPEC)
    found = Scene(bench, tmp_path)
    yield found
    found.close()


def test_the_run_of_a_killed_process_is_taken_over_and_is_not_repeated(scene: Scene) -> None:
    kill(scene.begun())
    before = scene.supervisor()
    attempt = scene.carrier.attempt(adopting=True)
    carried = in_thread(attempt.adopt)
    assert attempt.execution.read_log(LogStream.STDOUT, 2, 100, 20.0)[0] == b"e\n"
    assert scene.supervisor() == before
    scene.go()
    carried.join(60)
    assert (scene.outcome().status, scene.outcome().stored) == (Status.SUCCEEDED, True)
    assert scene.output("count") == b"began\n"
    assert scene.output(".simyard/stdout.log") == b"one\ntwo\n"
    assert "in put.txt" not in {entry.path for entry in read_manifest(scene.store, scene.carrier.work.task, 1)}
    scene.nothing_left()


def test_a_cancel_reaches_a_run_that_was_taken_over(plain: Scene) -> None:
    kill(plain.begun())
    attempt = plain.carrier.attempt(adopting=True)
    carried = in_thread(attempt.adopt)
    attempt.cancel()
    carried.join(60)
    assert plain.outcome().status is Status.CANCELLED
    assert plain.output("count") == b"began\n"
    plain.nothing_left()


def test_a_run_that_ended_while_nobody_watched_is_taken_over_too(plain: Scene) -> None:
    kill(plain.begun())
    plain.go()
    until(lambda: plain.running.poll(), "the end of the commands")
    plain.carrier.attempt(adopting=True).adopt()
    assert (plain.outcome().status, plain.outcome().stored) == (Status.SUCCEEDED, True)
    assert plain.reports[:-1] == ["running", "finalizing"]
    assert plain.output("count") == b"began\n"
    plain.nothing_left()


def ended_in_boot(scene: Scene, boot: str | None) -> None:
    """Let the commands end while nobody watches, in that boot of the machine; None is what a release before wrote."""
    kill(scene.begun())
    scene.go()
    until(lambda: scene.running.poll(), "the end of the commands")
    file = scene.root / "control" / supervisor.STATE
    state = json.loads(file.read_bytes())
    assert state.pop("boot") == supervisor.boot() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file.write_text(json.dumps(state if boot is None else state | {"boot": boot}))


def test_a_run_that_ended_before_the_machine_was_started_anew_is_not_taken_over(plain: Scene) -> None:
    # The system may not have written all that it made.
    ended_in_boot(plain, "5b1f3d60-6e56-4c0b-a1e3-2d2b4d5d8f11")
    with pytest.raises(SupervisorLost, match="started anew"):
        Running.attach(plain.root / "control").poll()
    with pytest.raises(NotAdoptable, match="end"):
        plain.carrier.attempt(adopting=True)
    plain.no_result()
    plain.nothing_left()


def test_a_run_that_ended_below_a_supervisor_of_the_release_before_is_taken_over(plain: Scene) -> None:
    ended_in_boot(plain, None)
    plain.carrier.attempt(adopting=True).adopt()
    assert (plain.outcome().status, plain.outcome().stored) == (Status.SUCCEEDED, True)


def test_a_run_whose_process_died_while_storing_is_stored_by_another(plain: Scene) -> None:
    process = plain.begun(stuck="commit_manifest")
    plain.go()
    until(lambda: (plain.folder / "stuck").exists(), "the commit")
    with pytest.raises(ObjectNotFound):
        read_manifest(plain.store, plain.carrier.work.task, 1)
    kill(process)
    plain.carrier.attempt(adopting=True).adopt()
    assert (plain.outcome().status, plain.outcome().stored) == (Status.SUCCEEDED, True)
    assert plain.output("count") == b"began\n"
    plain.nothing_left()


def test_a_result_that_was_stored_and_not_reported_is_reported_as_it_is(
    plain: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = plain.begun(stuck="commit_manifest+")
    plain.go()
    until(lambda: (plain.folder / "stuck").exists(), "the commit")
    kill(process)
    stored = read_outcome(plain.store, plain.carrier.work.task, 1)
    assert stored is not None
    monkeypatch.setattr(module, "store_outputs", lambda *_, **__: pytest.fail("it is stored already"))
    plain.carrier.attempt(adopting=True).adopt()
    assert plain.outcome() == Outcome.model_validate_json(stored)
    plain.nothing_left()


def test_what_was_not_staged_is_not_taken_over_and_is_removed(plain: Scene) -> None:
    process = plain.start(stuck="stage")
    until(lambda: (plain.folder / "stuck").exists(), "the staging")
    kill(process)
    with pytest.raises(NotAdoptable, match="inputs"):
        plain.carrier.attempt(adopting=True)
    plain.nothing_left()


def test_a_run_whose_supervisor_is_gone_is_not_taken_over_and_is_ended(scene: Scene) -> None:
    kill(scene.begun())
    pid, _ = scene.supervisor()
    os.kill(pid, signal.SIGKILL)
    until(lambda: scene.running.supervisor_pid() is None, "the supervisor's end")
    with pytest.raises(NotAdoptable, match="end"):
        scene.carrier.attempt(adopting=True)
    scene.nothing_left()


def test_what_is_not_on_this_machine_is_not_taken_over(plain: Scene) -> None:
    with pytest.raises(NotAdoptable, match="not on this machine"):
        plain.carrier.attempt(adopting=True)
    assert not plain.root.exists()


def test_a_run_on_other_gpus_is_not_taken_over(plain: Scene) -> None:
    kill(plain.begun())
    (plain.root / "gpus.json").write_text('["3"]')
    with pytest.raises(NotAdoptable, match="GPU"):
        plain.carrier.attempt(adopting=True)
    plain.nothing_left()


def test_of_two_that_take_over_one_wins(plain: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ADOPT_PATIENCE", 0.3)
    kill(plain.begun())
    won: list[Any] = []
    lost: list[NotAdoptable] = []
    start = threading.Barrier(2)

    def take() -> None:
        start.wait()
        try:
            won.append(plain.carrier.attempt(adopting=True))
        except NotAdoptable as refused:
            lost.append(refused)

    for thread in (takers := [threading.Thread(target=take) for _ in range(2)]):
        thread.start()
    for thread in takers:
        thread.join(30)
    assert (len(won), len(lost)) == (1, 1)
    assert "Another process" in str(lost[0])
    plain.go()
    won[0].adopt()
    assert plain.outcome().status is Status.SUCCEEDED
    assert plain.output("count") == b"began\n"


def test_a_process_that_is_only_just_dying_is_waited_for(plain: Scene) -> None:
    process = plain.begun()
    taken: list[Any] = []
    thread = in_thread(lambda: taken.append(plain.carrier.attempt(adopting=True)))
    assert not taken
    kill(process)
    thread.join(30)
    plain.go()
    taken[0].adopt()
    assert plain.outcome().status is Status.SUCCEEDED


@pytest.mark.parametrize("ends", [False, True], ids=["it runs on", "it has ended meanwhile"])
def test_a_frozen_process_that_wakes_up_superseded_stores_nothing_and_leaves_nothing(
    plain: Scene, *, ends: bool
) -> None:
    process = plain.begun(lease=1.0)
    process.send_signal(signal.SIGSTOP)
    if ends:
        plain.go()
        until(lambda: plain.running.poll(), "the end of the commands")
    frozen = time.monotonic()
    until(lambda: time.monotonic() > frozen + 1.2, "the end of the lease: only then may another attempt have begun")
    (plain.folder / "refuse").touch()
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 3
    plain.no_result()
    plain.nothing_left()


def test_a_sweep_leaves_a_run_that_may_be_taken_over_and_ends_one_that_has_lost_its_place(plain: Scene) -> None:
    kill(plain.begun())
    before = plain.supervisor()
    box, scratch = plain.carrier.work.box, plain.carrier.scratch
    assert sweep(scratch) == 0
    assert sweep(scratch, current=[box]) == 0
    assert plain.supervisor() == before
    assert sweep(scratch, current=["simyard-another-1"]) == 1
    plain.nothing_left()


def test_what_was_stored_and_not_removed_when_its_process_died_is_swept_at_once(
    plain: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the system does with the lock of a process that dies just after its report.
    monkeypatch.setattr(Execution, "remove", lambda self: os.close(self._claim._lock))
    kill(plain.begun())
    plain.go()
    plain.carrier.attempt(adopting=True).adopt()
    assert (plain.outcome().stored, plain.root.exists()) == (True, True)
    assert sweep(plain.carrier.scratch) == 1
    plain.nothing_left()


def test_a_run_that_nobody_takes_over_ends_and_is_swept(plain: Scene) -> None:
    kill(plain.begun(adoption_seconds=0.5))
    end = until(lambda: plain.running.poll(), "the end of the run")
    assert end.why == "orphaned"
    with pytest.raises(NotAdoptable, match="nobody watched"):
        plain.carrier.attempt(adopting=True)
    plain.nothing_left()


def test_a_run_that_nobody_has_watched_for_long_is_swept(plain: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(plain.begun())
    heart = plain.root / "control" / supervisor.HEARTBEAT
    heart.touch()
    os.utime(heart, (0, 0))
    assert sweep(plain.carrier.scratch) == 1
    plain.nothing_left()


def in_thread(call: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread
