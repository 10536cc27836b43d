"""What the supervisor sees and ends, on plain processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators import supervisor
from simulators.errors import SupervisorLost
from simulators.runtimes import Exit, Running
from simyard.simulator import Command
from tests.integration.runtimes.conftest import Bench, Job, sh, until

MIB = 2**20


def python(code: str) -> Command:
    return Command(argv=("python", "-c", code))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 40 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], check=False)
    if done.returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_ends_the_run_and_the_end_is_written(small_disk: Path, native: Bench) -> None:
    box = native.box(sh("true"), folder=small_disk / "work", control=small_disk / "control")
    script = "echo begun; while :; do cat /dev/zero >> fill 2>/dev/null; done"
    end, job = native.run(sh(script), folder=box.folder, control=box.control)
    assert end.why == "disk-full"
    assert "disk is full" in (end.message or "")
    assert job.out == b"begun\n"


def test_the_run_that_grows_ends_before_the_disk_is_full_and_others_on_it_go_on(
    small_disk: Path, native: Bench
) -> None:
    quiet = native.start(
        sh("echo mine > mine; while [ ! -e go ]; do sleep 0.05; done; echo more >> mine"),
        folder=small_disk / "quiet" / "work",
        control=small_disk / "quiet" / "control",
    )
    until(lambda: (quiet.folder / "mine").exists(), "the quiet run")
    script = "head -c 36000000 /dev/zero > fill; while :; do head -c 50000 /dev/zero >> fill; sleep 0.1; done"
    growing = native.start(
        sh(script), folder=small_disk / "growing" / "work", control=small_disk / "growing" / "control"
    )

    def end() -> Exit | None:
        quiet.running.beat()
        growing.running.beat()
        return growing.running.wait(0.5)

    found: Exit = until(end, "the end of the run that grows")
    assert found.why == "disk-full"
    assert "disk is full" in (found.message or "")
    assert found.evidence["free"] > 0
    assert found.evidence["grew"] > found.evidence["free"] / 4
    assert quiet.running.poll() is None
    (growing.folder / "fill").unlink()
    (quiet.folder / "go").touch()
    assert quiet.finish().exit_code == 0
    assert (quiet.folder / "mine").read_text() == "mine\nmore\n"


def test_a_run_does_not_start_on_a_disk_that_has_no_room_left(small_disk: Path, native: Bench) -> None:
    (small_disk / "others").write_bytes(bytes(39 * MIB))
    box = native.box(sh("true"), folder=small_disk / "work", control=small_disk / "control")
    end, job = native.run(sh("echo up"), folder=box.folder, control=box.control)
    assert (end.why, job.out) == ("disk-full", b"")
    assert end.evidence["free"] < 2 * MIB


def test_a_command_that_fails_for_want_of_disk_is_told_from_others(small_disk: Path, native: Bench) -> None:
    box = native.box(sh("true"), folder=small_disk / "work", control=small_disk / "control")
    end, _ = native.run(sh("cat /dev/zero > fill || exit 9"), folder=box.folder, control=box.control)
    assert end.why == "disk-full"


def test_output_that_the_disk_cannot_hold_is_counted(small_disk: Path, native: Bench) -> None:
    box = native.box(sh("true"), folder=native.root / "work", control=small_disk / "control")
    end, job = native.run(sh("head -c 60000000 /dev/zero"), folder=box.folder, control=box.control)
    assert (end.why, end.exit_code) == ("exit", 0)
    assert 10 * MIB < len(job.out) < 41 * MIB


def test_a_run_outlives_the_process_that_started_it(native: Bench) -> None:
    box = native.box(sh("echo up; while [ ! -e go ]; do sleep 0.02; done; echo done"))
    plan = native.runtime.plan(native.prepared, box)
    code = (
        "import pickle, sys, os, signal; from pathlib import Path; from simulators.runtimes import Running\n"
        "Running.start(pickle.loads(sys.stdin.buffer.read()), Path(sys.argv[1]))\n"
        "os.killpg(0, signal.SIGKILL)"
    )
    starter = subprocess.run(
        [sys.executable, "-c", code, str(box.control)],
        input=pickle.dumps(plan),
        env={"PYTHONPATH": ":".join(sys.path)},
        start_new_session=True,
        check=False,
    )
    assert starter.returncode == -signal.SIGKILL
    job = Job(box.name, Running.attach(box.control), box.folder)
    native.jobs.append(job)
    until(lambda: job.out == b"up\n", "the command")
    (box.folder / "go").touch()
    assert job.finish().exit_code == 0
    assert job.out == b"up\ndone\n"


def test_a_signal_to_the_supervisor_is_a_stop(native: Bench) -> None:
    job = native.start(sh("echo up; sleep 300"))
    until(lambda: job.out == b"up\n", "the command")
    pid = job.running.supervisor_pid()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert job.finish().why == "stopped"


def test_a_stopped_process_is_ended_too(native: Bench) -> None:
    job = native.start(sh("echo up; kill -STOP $$"))
    until(lambda: job.out == b"up\n", "the command")
    job.running.stop()
    assert job.finish().why == "stopped"


def test_a_process_that_cleans_its_environment_and_daemonises_is_ended(native: Bench) -> None:
    code = (
        "import os, sys, time\n"
        "if os.fork(): time.sleep(300)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "open('up', 'w').write(str(os.getpid()))\n"
        "os.execve('/bin/sleep', ['sleep', '300'], {})"
    )
    job = native.start(python(code))
    hidden = int(until(lambda: (job.folder / "up").exists() and (job.folder / "up").read_text(), "the daemon"))
    job.running.stop()
    job.finish()
    assert supervisor.read_process(hidden) is None


def test_reap_finds_a_daemon_without_the_mark_that_the_supervisor_had_seen(native: Bench) -> None:
    job = native.start(sh("env -i setsid sleep 300 & echo $! > up; sleep 300"))
    hidden = int(until(lambda: (job.folder / "up").exists() and (job.folder / "up").read_text(), "the daemon"))
    members = job.running.control / supervisor.MEMBERS
    until(lambda: members.exists() and str(hidden) in members.read_text(), "the supervisor's look")
    pid = job.running.supervisor_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert job.running.reap()
    assert not (found := supervisor.read_process(hidden)) or not found.alive


def test_reap_kills_a_supervisor_that_does_not_answer(native: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.runtimes.running._REAP_SECONDS", 1.0)
    job = native.start(sh("echo up; sleep 300"), grace_seconds=0.1)
    until(lambda: job.out == b"up\n", "the command")
    pid = job.running.supervisor_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert job.running.reap()
    assert native.leftovers() == {}


def test_shared_memory_is_counted_once(native: Bench) -> None:
    code = (
        "import mmap, os, time\n"
        f"m = mmap.mmap(-1, {60 * MIB}); m.write(b'x' * {60 * MIB})\n"
        "for _ in range(4):\n"
        f"    if not os.fork():\n        sum(m[i] for i in range(0, {60 * MIB}, 4096)); time.sleep(1.5); os._exit(0)\n"
        "time.sleep(2)"
    )
    end, _ = native.run(python(code), resources={"memory": "250MiB"})
    assert (end.why, end.exit_code) == ("exit", 0)
    assert 60 * MIB < end.peak_memory < 250 * MIB


def test_peak_memory_and_cpu_of_a_short_command_are_the_kernels(native: Bench) -> None:
    code = "a = bytearray(80_000_000); import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    end, _ = native.run(python(code))
    assert 80_000_000 < end.peak_memory < 200_000_000
    assert 0.3 <= end.cpu_seconds < 2


def test_cpu_of_all_processes_counts(native: Bench) -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    end, _ = native.run(sh(f'for i in 1 2 3; do python3 -c "{burn}" & done; wait'))
    assert 0.9 <= end.cpu_seconds < 4


def test_a_script_without_a_first_line_is_explained(native: Bench) -> None:
    box = native.box(sh("true"))
    (box.folder / "run").write_bytes(b"\x00nothing")
    (box.folder / "run").chmod(0o755)
    end, _ = native.run(Command(argv=("./run",)), folder=box.folder, control=box.control)
    assert end.why == "launch-error"
    assert "#!" in (end.message or "")


def test_a_file_that_is_not_executable_is_explained(native: Bench) -> None:
    box = native.box(sh("true"))
    (box.folder / "run").write_text("#!/bin/sh\n")
    end, _ = native.run(Command(argv=("./run",)), folder=box.folder, control=box.control)
    assert end.why == "launch-error"
    assert "executable" in (end.message or "")


def test_the_whole_environment_is_what_was_said(native: Bench) -> None:
    end, job = native.run(Command(argv=("env", "-0")))
    names = {line.split(b"=")[0].decode() for line in job.out.rstrip(b"\0").split(b"\0")}
    assert end.exit_code == 0
    assert names == {"PATH", "HOME", "TMPDIR", "LANG", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SIMYARD_BOX"}


def test_no_file_of_ours_is_open_in_a_command(native: Bench) -> None:
    end, job = native.run(python("import os; print(sorted(os.listdir('/proc/self/fd')))"))
    assert end.exit_code == 0
    assert job.out == b"['0', '1', '2', '3']\n"  # 3 is the listing's own


def test_a_run_that_only_prints_does_not_starve_the_limits(native: Bench) -> None:
    job = native.start(sh("exec cat /dev/zero"), log_limit=1_000_000)
    until(lambda: len(job.out) >= 1_000_000, "a full log")
    job.running.stop()
    assert job.finish().why == "stopped"


def test_a_supervisor_that_cannot_start_says_why(native: Bench) -> None:
    box = native.box(sh("true"))
    (box.control / supervisor.STDOUT).mkdir()
    with pytest.raises(SupervisorLost, match=supervisor.STDOUT):
        Running.start(native.runtime.plan(native.prepared, box), box.control)


def test_a_process_id_that_now_belongs_to_another_is_not_the_supervisor(native: Bench) -> None:
    end, job = native.run(sh("true"))
    assert end.exit_code == 0
    other = supervisor.read_process(os.getpid())
    assert other is not None
    (job.running.control / supervisor.PID).write_text(f"{os.getpid()} {other.start + 1}\n")
    assert job.running.supervisor_pid() is None


def test_a_folder_that_the_command_locked_is_still_measured_and_removed(native: Bench) -> None:
    end, job = native.run(sh('mkdir "$TMPDIR/locked"; touch "$TMPDIR/locked/x"; chmod 0 "$TMPDIR/locked"'))
    assert end.exit_code == 0
    assert not (job.running.control / supervisor.TEMP).exists()


def test_the_supervisor_rests_while_a_command_sleeps(native: Bench) -> None:
    job = native.start(sh("sleep 300"))
    pid = job.running.supervisor_pid()
    assert pid is not None

    def used() -> float:
        process = supervisor.read_process(pid)
        assert process is not None
        return process.cpu / os.sysconf("SC_CLK_TCK")

    before, begun = used(), time.monotonic()
    until(lambda: time.monotonic() > begun + 3, "three seconds")
    assert used() - before < 0.3


def test_too_many_processes_are_ended_at_once_and_the_end_says_so(native: Bench) -> None:
    code = "import os, time\nfor _ in range(150):\n    if not os.fork(): os.setsid(); time.sleep(300)\ntime.sleep(300)"
    end, _ = native.run(python(code), processes=100)
    assert (end.why, end.signal) == ("exit", signal.SIGKILL)
    assert "100 processes" in (end.message or "")
    assert native.leftovers() == {}
