"""The process that starts supervisors, and what happens when it dies or hangs."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from simulators import supervisor
from simulators.errors import SupervisorLost
from simulators.runtimes import Running
from simulators.runtimes import launcher as launcher_module
from simulators.runtimes.launcher import LAUNCHER

from .conftest import Bench, Job, sh, until


def launchers() -> list[psutil.Process]:
    """Return the launchers of this process."""
    return [
        child
        for child in psutil.Process().children()
        if any(word.endswith("supervisor/__main__.py") for word in child.cmdline())
    ]


@pytest.fixture
def one() -> psutil.Process:
    """Give the launcher of this process, which is there."""
    LAUNCHER.warm_up()
    [process] = launchers()
    return process


def test_one_launcher_starts_all_runs_and_is_replaced_when_it_has_died(native: Bench, one: psutil.Process) -> None:
    assert native.run(sh("true"))[0].exit_code == 0
    assert launchers() == [one]
    one.kill()
    until(lambda: one.status() == psutil.STATUS_ZOMBIE, "its death")
    assert native.run(sh("true"))[0].exit_code == 0
    [another] = launchers()
    assert another.pid != one.pid


def test_the_next_supervisor_waits_and_one_that_was_killed_meanwhile_costs_no_run(
    native: Bench, one: psutil.Process
) -> None:
    [spare] = until(one.children, "the one that waits")
    job = native.start(sh("true"))
    assert job.running.supervisor_pid() in {spare.pid, None}
    assert job.finish().exit_code == 0
    [another] = until(lambda: [child for child in one.children() if child != spare], "the next one")
    another.kill()
    until(lambda: not another.is_running(), "its death")
    assert native.run(sh("true"))[0].exit_code == 0
    assert launchers() == [one]


def test_a_run_goes_on_when_the_launcher_dies(native: Bench, one: psutil.Process) -> None:
    job = native.start(sh("echo up; while [ ! -e go ]; do sleep 0.02; done"))
    until(lambda: job.out == b"up\n", "the command")
    one.kill()
    one.wait()
    (job.folder / "go").touch()
    assert job.finish().exit_code == 0


def test_a_launcher_that_hangs_is_given_up_and_replaced(
    native: Bench, one: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = native.box(sh("true"))
    one.suspend()
    monkeypatch.setattr(launcher_module, "_SECONDS", 0.3)
    with pytest.raises(SupervisorLost, match=r"did not answer for 0\.3 s"):
        Running.start(native.runtime.plan(native.prepared, box), box.control)
    assert not one.is_running()
    assert native.run(sh("true"))[0].exit_code == 0


def test_a_supervisor_that_does_not_come_up_says_why(native: Bench) -> None:
    box = native.box(sh("true"))
    plan = native.runtime.plan(native.prepared, box)
    (box.control / supervisor.PID).mkdir()
    with pytest.raises(SupervisorLost, match="IsADirectoryError"):
        Running.start(plan, box.control)
    (box.control / supervisor.PID).rmdir()
    assert native.run(sh("true"))[0].exit_code == 0


def test_many_runs_are_started_at_once(native: Bench, one: psutil.Process) -> None:
    def start(n: int) -> Job:
        folder, control = native.root / f"work-{n}", native.root / f"control-{n}"
        return native.start(sh(f"echo {n}"), folder=folder, control=control)

    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(start, range(24)))
    assert [(job.finish().exit_code, job.out) for job in jobs] == [(0, f"{n}\n".encode()) for n in range(24)]
    assert launchers() == [one]


def test_a_supervisor_is_known_by_its_box_and_leaves_no_zombie(native: Bench, one: psutil.Process) -> None:
    job = native.start(sh("sleep 300"))
    pid = job.running.supervisor_pid()
    assert pid is not None
    assert psutil.Process(pid).cmdline()[0] == f"simyard supervisor of {job.name}"
    job.running.stop()
    assert job.finish().why == "stopped"
    until(lambda: not psutil.pid_exists(pid), "the end of the process")
    until(lambda: [child.status() for child in one.children()] == [psutil.STATUS_SLEEPING], "only the one that waits")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may raise what it is spared")
def test_the_kernel_takes_the_simulation_before_its_supervisor(native: Bench) -> None:
    job = native.start(sh("cat /proc/self/oom_score_adj; sleep 300"))
    until(lambda: job.out, "the command")
    pid = job.running.supervisor_pid()
    assert int(job.out) > int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_a_launcher_ends_with_the_process_that_it_serves(native: Bench) -> None:
    told, tell = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            mine = launcher_module.Launcher()
            mine.warm_up()
            assert mine._process is not None
            os.write(tell, str(mine._process.pid).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    theirs = psutil.Process(int(os.read(told, 20)))
    os.close(told)
    [spare] = until(theirs.children, "the supervisor that waits")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not spare.is_running() or spare.status() == psutil.STATUS_ZOMBIE, "the end of the one that waits")
    until(lambda: not theirs.is_running() or theirs.status() == psutil.STATUS_ZOMBIE, "the end of the launcher")
