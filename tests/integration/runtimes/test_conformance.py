"""What every runtime does, whichever engine stands behind it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from simulators.errors import SupervisorLost
from simulators.runtimes import Running
from simyard.resources import Limits
from simyard.simulator import Command, RuntimeName
from tests.integration.runtimes.conftest import Bench, sh, until


def test_a_run_whose_commands_all_succeed_ends_with_code_0(bench: Bench) -> None:
    end, job = bench.run(sh("echo one"), sh("echo two; echo three >&2"))
    assert (end.why, end.exit_code, end.signal, end.command) == ("exit", 0, None, 1)
    assert (job.out, job.err) == (b"one\ntwo\n", b"three\n")
    assert end.started_at is not None
    assert end.started_at < end.ended_at


def test_the_first_command_that_fails_ends_the_run(bench: Bench) -> None:
    end, job = bench.run(sh("exit 0"), sh("exit 42"), sh("echo never"))
    assert (end.why, end.exit_code, end.command) == ("exit", 42, 1)
    assert job.out == b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_is_told_from_an_exit_code(bench: Bench, number: signal.Signals) -> None:
    end, _ = bench.run(sh(f"kill -{int(number)} $$"))
    assert (end.why, end.exit_code, end.signal) == ("exit", None, number)


def test_commands_run_in_the_tasks_folder_and_their_files_are_ours(bench: Bench) -> None:
    end, job = bench.run(sh("mkdir deep; echo made > 'deep/a \"b\"'; chmod 700 deep"), sh("cat deep/*"))
    assert (end.exit_code, job.out) == (0, b"made\n")
    made = job.folder / "deep" / 'a "b"'
    assert made.stat().st_uid == os.geteuid()
    made.unlink()
    made.parent.rmdir()


def test_words_reach_the_program_as_they_are(bench: Bench) -> None:
    words = ("a b", "$HOME", "*", "quo'te\"", "new\nline", "é", "--help", "-e")
    end, job = bench.run(Command(argv=("printf", "[%s]", *words)))
    assert end.exit_code == 0
    assert job.out == "".join(f"[{word}]" for word in words).encode()


def test_prompts_are_read_from_stdin_and_end(bench: Bench) -> None:
    script = 'read a; read b; echo "$b then $a"; cat; echo end'
    end, job = bench.run(sh(script, stdin="first line\nsecond\nthe rest\nwithout newline"), sh("cat; echo none"))
    assert end.exit_code == 0
    assert job.out == b"second then first line\nthe rest\nwithout newlineend\nnone\n"


def test_a_megabyte_of_prompts_does_not_block(bench: Bench) -> None:
    end, job = bench.run(sh("sleep 0.2; cat | wc -c", stdin="x" * 1_000_000))
    assert end.exit_code == 0
    assert job.out.split() == [b"1000000"]


def test_output_without_newline_can_be_read_at_once(bench: Bench) -> None:
    job = bench.start(sh("printf '50%%\\r'; while [ ! -e go ]; do sleep 0.02; done; printf '100%%'"))
    until(lambda: job.out == b"50%\r", "the first output")
    assert job.running.poll() is None
    (job.folder / "go").touch()
    assert job.finish().exit_code == 0
    assert job.out == b"50%\r100%"


def test_binary_output_is_kept_byte_by_byte(bench: Bench) -> None:
    end, job = bench.run(sh("printf '\\000\\377\\r\\n\\303'; printf '\\001' >&2"))
    assert end.exit_code == 0
    assert (job.out, job.err) == (b"\x00\xff\r\n\xc3", b"\x01")


def test_a_hundred_thousand_tiny_writes_all_arrive(bench: Bench) -> None:
    end, job = bench.run(sh("i=0; while [ $i -lt 100000 ]; do printf x; i=$((i+1)); done"))
    assert end.exit_code == 0
    assert job.out == b"x" * 100_000


def test_output_beyond_the_log_limit_is_counted_and_the_command_goes_on(bench: Bench) -> None:
    end, job = bench.run(sh("head -c 3000000 /dev/zero; echo done >&2"), log_limit=1_000_000)
    assert end.exit_code == 0
    assert job.out.startswith(b"\0" * 1_000_000 + b"\n[")
    assert b"2000000" in job.out[1_000_000:]
    assert len(job.out) < 1_001_000
    assert job.err == b"done\n"


def test_nothing_of_our_environment_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "SIMYARD_KEY", "http_proxy", "MY_TOKEN", "PYTHONPATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "secret-4711")
    end, job = bench.run(sh("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c 4711 >&2; true"))
    assert end.exit_code == 0
    assert b"4711" not in job.out
    seen = dict(line.split("=", 1) for line in job.out.decode().splitlines())
    assert seen["LANG"] == "C.UTF-8"
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert seen["SIMYARD_BOX"].startswith("simyard-t")
    if bench.runtime.name is not RuntimeName.NATIVE:
        assert seen["FROM_IMAGE"] == "kept"
        assert job.err == b"0\n"


def test_a_command_sees_the_variables_it_was_given(bench: Bench) -> None:
    environment = {"A": "new\nline", "LANG": "C", "B": "quo'te\"=$A", "SIMYARD_BOX": "forged"}
    end, job = bench.run(sh('printf "%s|%s|%s|%s" "$A" "$LANG" "$B" "$SIMYARD_BOX"', environment=environment))
    assert end.exit_code == 0
    assert job.out.decode().startswith("new\nline|C|quo'te\"=$A|simyard-t")


def test_home_and_temporary_folder_can_be_written(bench: Bench) -> None:
    end, job = bench.run(sh('echo 1 > "$TMPDIR/x" && echo 2 > "$HOME/y" && ls "$TMPDIR"'))
    assert (end.exit_code, job.out) == (0, b"x\n")
    assert (job.folder / "y").read_text() == "2\n"


def test_a_program_that_is_not_there_is_named(bench: Bench) -> None:
    end, job = bench.run(sh("true"), Command(argv=("no-such-solver", "x")), sh("echo never"))
    assert (end.why, end.exit_code, end.signal, end.command) == ("launch-error", None, None, 1)
    assert "no-such-solver" in (end.message or "")
    assert job.out == b""


@pytest.mark.parametrize("name", ["exit", "stopped"])
def test_a_daemon_that_was_left_behind_does_not_survive_its_command(bench: Bench, name: str) -> None:
    spawn = "(setsid sh -c 'trap \"\" TERM HUP; (sleep 300; true) & echo up > up; wait' >/dev/null 2>&1 &)"
    wait = "while [ ! -e up ]; do sleep 0.02; done"
    job = bench.start(sh(f"{spawn}; {wait}; {'exit 4' if name == 'exit' else 'sleep 300'}"), grace_seconds=0.3)
    if name == "stopped":
        until((job.folder / "up").exists, "the daemon")
        job.running.stop()
    end = job.finish()
    assert end.why == name
    assert end.exit_code == (4 if name == "exit" else None)
    assert bench.leftovers() == {}


def test_a_daemon_that_holds_the_output_open_does_not_delay_the_end(bench: Bench) -> None:
    begun = time.monotonic()
    end, job = bench.run(sh("echo text; (sleep 300 &) ; exit 5"))
    assert (end.exit_code, job.out) == (5, b"text\n")
    assert time.monotonic() - begun < 20
    assert bench.leftovers() == {}


def test_stop_ends_a_run_with_fifty_children(bench: Bench) -> None:
    script = "i=0; while [ $i -lt 50 ]; do sleep 300 & i=$((i+1)); done; echo up; wait"
    job = bench.start(sh(script), sh("echo never"))
    until(lambda: job.out == b"up\n", "the children")
    job.running.stop()
    end = job.finish()
    assert (end.why, end.command) == ("stopped", 0)
    assert bench.leftovers() == {}
    assert job.out == b"up\n"


def test_stop_lets_a_command_clean_up(bench: Bench) -> None:
    job = bench.start(sh("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"))
    until(lambda: job.out == b"up\n", "the command")
    job.running.stop()
    end = job.finish()
    assert (end.why, end.exit_code, job.out) == ("stopped", 3, b"up\nbye\n")


def test_stop_ends_a_command_that_ignores_it(bench: Bench) -> None:
    job = bench.start(sh("trap '' TERM INT HUP; echo up; while :; do sleep 0.05; done"), grace_seconds=0.3)
    until(lambda: job.out == b"up\n", "the command")
    job.running.stop()
    end = job.finish()
    assert (end.why, end.signal) == ("stopped", signal.SIGKILL)


def test_a_stop_before_the_start_lets_no_command_run(bench: Bench) -> None:
    box = bench.box(sh("echo ran"))
    Running.attach(box.control).stop()
    end, job = bench.run(sh("echo ran"), folder=box.folder, control=box.control)
    assert (end.why, end.started_at, end.exit_code, job.out) == ("stopped", None, None, b"")


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3])
def test_a_stop_in_any_phase_ends_everything(bench: Bench, delay: float) -> None:
    box = bench.box(sh("sleep 300"))
    stopper = threading.Timer(delay, Running.attach(box.control).stop)
    stopper.start()
    end, _ = bench.run(sh("sleep 300"), folder=box.folder, control=box.control)
    stopper.join()
    assert end.why == "stopped"
    assert bench.leftovers() == {}


def test_the_run_limit_ends_the_run(bench: Bench) -> None:
    end, job = bench.run(sh("echo up; sleep 300"), limits=Limits(run=2.0))
    assert (end.why, job.out) == ("run-limit", b"up\n")
    assert "2 s" in (end.message or "")
    assert end.started_at is not None
    assert 2.0 <= (end.ended_at - end.started_at).total_seconds() < 15


def test_the_run_limit_covers_all_commands_together(bench: Bench) -> None:
    end, _ = bench.run(*[sh("sleep 1")] * 20, limits=Limits(run=2.5))
    assert end.why == "run-limit"
    assert end.command in {1, 2}


def test_a_run_that_gives_no_output_stalls_once_and_goes_on(bench: Bench) -> None:
    script = "echo up; while [ ! -e go ]; do sleep 0.05; done; echo more; while [ ! -e end ]; do sleep 0.05; done"
    job = bench.start(sh(script), limits=Limits(stall=1.0))

    def stalls(count: int) -> bool:
        job.running.beat()
        assert job.running.poll() is None
        return job.running.stalls() >= count

    until(lambda: stalls(1), "a stall")
    (job.folder / "go").touch()
    until(lambda: stalls(2), "another stall")
    (job.folder / "end").touch()
    end = job.finish()
    assert (end.why, end.exit_code, job.out) == ("exit", 0, b"up\nmore\n")


@pytest.mark.parametrize("act", ["echo here", "echo here >> file", ": > file; rm file"])
def test_output_of_any_kind_keeps_a_run_from_stalling(bench: Bench, act: str) -> None:
    script = f"i=0; while [ $i -lt 30 ]; do {act}; sleep 0.2; i=$((i+1)); done"
    end, _ = bench.run(sh(script), limits=Limits(stall=4, end_stalled=True))
    assert (end.why, end.exit_code) == ("exit", 0)


def test_a_run_that_stalls_is_ended_where_that_was_asked_for(bench: Bench) -> None:
    end, job = bench.run(sh("echo up; sleep 300"), limits=Limits(stall=1.0, end_stalled=True))
    assert (end.why, job.out) == ("stall-limit", b"up\n")
    assert "1 s" in (end.message or "")
    assert bench.leftovers() == {}


def test_more_memory_than_asked_for_ends_the_run(bench: Bench) -> None:
    script = "dd if=/dev/zero of=/dev/null bs=400M count=20"
    end, _ = bench.run(sh(f"{script} & {script} & wait; exit 7"), resources={"memory": "100MiB"})
    assert end.why == "out-of-memory"
    assert end.peak_memory > 90 * 2**20


def test_memory_that_was_taken_in_milliseconds_is_noticed(bench: Bench) -> None:
    end, _ = bench.run(sh("exec dd if=/dev/zero of=/dev/null bs=600M count=3"), resources={"memory": "100MiB"})
    assert end.why == "out-of-memory"


def test_a_folder_that_outgrows_its_disk_ends_the_run(bench: Bench) -> None:
    script = "i=0; while :; do head -c 3000000 /dev/zero > f$i; i=$((i+1)); sleep 0.05; done"
    end, _ = bench.run(sh(script), resources={"disk": "20MiB"})
    assert end.why == "disk-full"
    assert "limit" in (end.message or "")


def test_a_run_that_nobody_watches_ends(bench: Bench) -> None:
    job = bench.start(sh("echo up; sleep 300"), orphan_seconds=1.0)
    assert until(job.running.poll, "the end").why == "orphaned"


def test_a_run_that_is_watched_goes_on(bench: Bench) -> None:
    end, _ = bench.run(sh("sleep 3"), orphan_seconds=2.5)
    assert (end.why, end.exit_code) == ("exit", 0)


def test_a_storm_of_forks_is_bounded_and_ended(bench: Bench) -> None:
    # It doubles five times a second: a storm that the test machine's other users do not feel.
    job = bench.start(sh("storm() { sleep 0.2; storm & storm & wait; }; echo up; storm"), processes=100)
    until(lambda: job.out == b"up\n", "the storm")
    if bench.runtime.name is not RuntimeName.NATIVE:
        until(lambda: b"fork" in job.err, "a fork that is refused")
        job.running.stop()
    end = job.finish()
    assert end.why in {"exit", "stopped"}
    assert bench.leftovers() == {}


def test_reap_ends_everything_after_the_supervisor_was_killed(bench: Bench) -> None:
    job = bench.start(sh("(setsid sleep 300 &); echo up; sleep 300"))
    until(lambda: job.out == b"up\n", "the command")
    supervisor_pid = job.running.supervisor_pid()
    assert supervisor_pid is not None
    os.kill(supervisor_pid, signal.SIGKILL)
    until(lambda: job.running.supervisor_pid() is None, "the supervisor's death")
    with pytest.raises(SupervisorLost):
        job.running.poll()
    assert job.running.reap()
    assert bench.leftovers() == {}
    assert bench.containers() == []


def test_reap_ends_a_run_that_goes_on(bench: Bench) -> None:
    job = bench.start(sh("echo up; sleep 300"))
    until(lambda: job.out == b"up\n", "the command")
    assert Running.attach(job.running.control).reap()
    end = job.running.poll()
    assert end is not None
    assert end.why == "stopped"


def test_reap_is_quiet_where_nothing_was_ever_started(tmp_path: Path) -> None:
    assert Running.attach(tmp_path / "never").reap()


def test_samples_tell_cpu_memory_and_disk(bench: Bench) -> None:
    script = "head -c 5000000 /dev/zero > big; i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; sleep 1.5"
    end, job = bench.run(sh(script))
    samples = job.running.samples()
    assert len(samples) >= 3
    assert [s.at for s in samples] == sorted(s.at for s in samples)
    assert [s.cpu_seconds for s in samples] == sorted(s.cpu_seconds for s in samples)
    assert samples[-1].disk >= 5_000_000
    assert samples[-1].cpu_seconds > 0.02
    assert samples[-1].cpu_seconds == pytest.approx(end.cpu_seconds)
    assert end.peak_memory > 100_000
    assert max(s.memory for s in samples) > 0


def test_another_process_takes_a_run_over(bench: Bench) -> None:
    job = bench.start(sh("echo up; sleep 1; exit 6"))
    other = Running.attach(job.running.control)
    assert other.poll() is None
    end = until(lambda: other.wait(0.5), "the end")
    assert end.exit_code == 6
    assert Running.attach(job.running.control).poll() == end


def test_the_end_says_which_command_was_the_last(bench: Bench) -> None:
    job = bench.start(sh("true"), sh("echo up; sleep 300"))
    until(lambda: job.out == b"up\n", "the second command")
    job.running.stop()
    assert job.finish().command == 1
