"""The process that starts supervisors, and what happens when it dies or hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from simulators import supervisor
from simulators.errors import SupervisorLost
from simulators.runtimes import Running
from simulators.runtimes import launcher as launcher_module
from simulators.runtimes.launcher import LAUNCHER
from tests.running_server import those

from .conftest import Bench, Job, sh, until


def launchers() -> list[psutil.Process]:
    """Return the launchers of this process."""
    return those(
        psutil.Process().children(),
        lambda child: any(word.endswith("supervisor/__main__.py") for word in child.cmdline()),
    )


@pytest.fixture
def one() -> psutil.Process:
    """Give the launcher of this process, which is new."""
    LAUNCHER.close()
    LAUNCHER.warm_up()
    # For a moment after it was started the kernel shows a program without its words.
    [process] = until(launchers, "the launcher")
    return process


def test_one_launcher_starts_all_runs_and_is_replaced_when_it_has_died(native: Bench, one: psutil.Process) -> None:
    assert native.run(sh("true"))[0].exit_code == 0
    assert launchers() == [one]
    one.kill()
    until(lambda: one.status() == psutil.STATUS_ZOMBIE, "its death")
    assert native.run(sh("true"))[0].exit_code == 0
    [another] = launchers()
    assert another.pid != one.pid


def test_one_supervisor_carries_all_runs_and_one_that_was_killed_while_it_waited_costs_none(
    native: Bench, one: psutil.Process
) -> None:
    assert native.run(sh("true"))[0].exit_code == 0
    [first] = one.children()
    for code in (0, 3, 0):
        job = native.start(sh(f"exit {code}"))
        assert job.running.supervisor_pid() in {first.pid, None}
        assert job.finish().exit_code == code
        assert one.children() == [first]
    assert first.cmdline()[0] == "simyard supervisor that waits"
    first.kill()
    until(lambda: not first.is_running(), "its death")
    assert native.run(sh("true"))[0].exit_code == 0
    assert launchers() == [one]
    assert first not in one.children()


def test_a_supervisor_takes_nothing_of_a_run_into_the_next(native: Bench, one: psutil.Process) -> None:
    native.run(sh("true"))
    [first] = one.children()
    opened = first.num_fds()
    python = "x = bytearray(200_000_000); import time; begun = time.process_time()\n"
    python += "while time.process_time() < begun + 0.5: pass"
    before = native.run(sh(f"echo out; echo err >&2; sleep 300 & {sys.executable} -c '{python}'"))[0]
    after, job = native.run(sh("readlink /proc/$PPID/cwd"))
    assert job.out.decode().strip() == str(job.running.control.resolve())
    assert before.cpu_seconds > 0.5 > after.cpu_seconds
    assert before.peak_memory > 200_000_000 > after.peak_memory
    assert after.exit_code == 0
    assert job.err == b""
    assert one.children() == [first]
    assert first.num_fds() == opened
    assert Path(f"/proc/{first.pid}/cwd").readlink() == Path("/")


def test_a_supervisor_that_had_to_end_its_run_carries_no_other(native: Bench, one: psutil.Process) -> None:
    job = native.start(sh("sleep 300"))
    pid = job.running.supervisor_pid()
    job.running.stop()
    assert job.finish().why == "stopped"
    until(lambda: pid not in {child.pid for child in one.children()}, "its end")
    assert native.run(sh("true"))[0].exit_code == 0


def test_one_that_was_called_as_before_an_upgrade_ends_with_its_run(native: Bench) -> None:
    box = native.box(sh("true"))
    Running.attach(box.control).beat()
    plan = native.runtime.plan(native.prepared, box)
    (box.control / supervisor.PLAN).write_text(plan.to_json())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = Path(supervisor.__file__).with_name("__main__.py")
    with ours, theirs, subprocess.Popen([sys.executable, "-I", "-S", str(program)], stdin=theirs) as launcher:
        ours.send(os.fsencode(box.control.resolve()))
        assert ours.recv(1) == supervisor.STARTED
        until(lambda: psutil.Process(launcher.pid).children() == [], "the end of the supervisor")
        end = Running.attach(box.control).poll()
        assert end is not None
        assert end.exit_code == 0
        ours.close()


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
    assert native.run(sh("true"))[0].exit_code == 0
    until(lambda: len(one.children()) == 1, "the end of all but one")


def test_a_supervisor_is_known_by_its_box_and_leaves_no_zombie(native: Bench, one: psutil.Process) -> None:
    job = native.start(sh("sleep 300"))
    pid = job.running.supervisor_pid()
    assert pid is not None
    assert psutil.Process(pid).cmdline()[0] == f"simyard supervisor of {job.name}"
    job.running.stop()
    assert job.finish().why == "stopped"
    until(lambda: not psutil.pid_exists(pid), "the end of the process")
    until(lambda: all(child.status() == psutil.STATUS_SLEEPING for child in one.children()), "only those that wait")


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
