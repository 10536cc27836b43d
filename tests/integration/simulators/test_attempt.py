"""An attempt from inputs in storage to outputs there, with real processes and without Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from simulators import attempt as module
from simulators import patience, staging
from simulators.attempt import AttemptRun
from simulators.errors import Stopped
from simulators.execution import Execution
from simulators.outcome import Outcome
from simulators.runtimes import runtime_of
from simulators.runtimes.native import Native
from simulators.spec import SimulatorSpec, TableSpec, VersionSpec
from simulators.work import News, Report, Stall, Superseded, Work
from simyard.errors import NotFound
from simyard.event import LogStream
from simyard.files import InputFile, Staged
from simyard.reason import ReasonCode
from simyard.resources import MIB, Limits, Resources
from simyard.simulator import Command, RuntimeName
from simyard.status import Status
from storage.errors import StorageUnavailable
from storage.inputs import put_input
from storage.kept_inputs import Disk, KeptInputs
from storage.manifest import read_manifest
from storage.memory import MemoryStore
from storage.outcomes import read_outcome
from storage.reader import read_entry
from storage.tables import read_table

VERSION = VersionSpec(version="1", requirements=())
TASK = "t000000000001"


def parse(folder: Path, _: object) -> object:
    import pyarrow as pa

    path = folder / "result.csv"
    return pa.table({"value": [float(path.read_text())]}) if path.exists() else None


SPEC = SimulatorSpec(
    name="shell",
    title="Shell",
    description="Built-in programs of the machine.",
    homepage="https://example.org",
    versions=(VERSION,),
    parameters=(),
    build=lambda *_: (),
    tables={"result": TableSpec(description="One value.", parse=parse)},  # type: ignore[arg-type]
)


class Desk:
    """Takes reports and remembers them."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []
        self.stalls: list[int] = []
        self.news: list[News] = []
        self.outcome: Outcome | None = None
        self.running = threading.Event()
        self.refuse = False

    def _check(self) -> None:
        if self.refuse:
            raise Superseded

    def renew(self, work: Work) -> None:
        self._check()

    def report(self, work: Work, reports: Sequence[Report]) -> None:
        self._check()
        for report in reports:
            match report.what:
                case Status() as status:
                    self.statuses.append(status)
                case Stall(number):
                    self.stalls.append(number)
                case News() as news:
                    self.news.append(news)
                case outcome:
                    self.outcome = outcome
        if Status.RUNNING in self.statuses:
            self.running.set()


class Bench:
    """Everything that an attempt needs, with a way to run one."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = MemoryStore("bench")
        self.desk = Desk()
        self.scratch = tmp_path / "scratch"
        self.disk = Disk(10**9, 0, 10**9)
        self.kept = KeptInputs(tmp_path / "inputs", 10**9, disk=lambda _: self.disk)
        content = b"41\n"
        self.inputs = (InputFile(path="in put.txt", sha256=put_input(self.store, content), size=len(content)),)

    def make(
        self, *commands: Command, resources: Resources | None = None, limits: Limits | None = None, **more: Any
    ) -> AttemptRun:
        work = Work(
            task=TASK,
            attempt=more.pop("attempt", 1),
            simulator="shell",
            version="1",
            runtime=RuntimeName.NATIVE,
            parameters={},
            commands=commands,
            inputs=self.inputs,
            resources=resources or Resources(memory=512 * MIB),
            limits=limits or Limits(),
            project="default",
            storage="memory://bench",
            **more,
        )
        execution = Execution(
            box=work.box,
            root=self.scratch / work.box,
            spec=SPEC,
            version=VERSION,
            runtime=runtime_of(RuntimeName.NATIVE),
            resources=work.resources,
            limits=work.limits,
            make_room=self.kept.give_way,
        )
        return AttemptRun(work, execution, self.store, self.desk, 30.0, self.kept)

    def run(self, *argv: str, **more: object) -> Outcome:
        self.make(Command(argv=argv), **more).carry()  # type: ignore[arg-type]
        assert self.desk.outcome is not None
        return self.desk.outcome

    def output(self, path: str, attempt: int = 1) -> bytes:
        entries = {entry.path: entry for entry in read_manifest(self.store, TASK, attempt)}
        return b"".join(read_entry(self.store, TASK, attempt, entries[path]))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module.catalogue, "find", lambda name: SPEC)
    return Bench(tmp_path)


def test_outputs_tables_logs_and_manifest_are_stored(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo said; echo complained >&2; echo 42 > result.csv")
    assert (outcome.status, outcome.exit_code, outcome.stored) == (Status.SUCCEEDED, 0, True)
    assert bench.desk.statuses == [Status.RUNNING, Status.FINALIZING]
    assert bench.output("result.csv") == b"42\n"
    assert bench.output(".simyard/stdout.log") == b"said\n"
    assert bench.output(".simyard/stderr.log") == b"complained\n"
    table = read_table(bench.store, "result", simulator="shell", project="default", task=TASK)
    assert table.to_pylist() == [{"value": 42.0}]


def test_unchanged_inputs_are_not_outputs_and_changed_ones_are(bench: Bench) -> None:
    bench.run("true")
    assert not any(e.path == "in put.txt" for e in read_manifest(bench.store, TASK, 1))


def test_a_changed_input_is_an_output(bench: Bench) -> None:
    bench.run("sh", "-c", "echo more >> 'in put.txt'")
    assert bench.output("in put.txt") == b"41\nmore\n"


def test_a_failing_command_keeps_what_it_made(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo half > partial; exit 3")
    assert outcome.status is Status.FAILED
    assert outcome.reason is not None
    assert (outcome.reason.code, outcome.exit_code) == (ReasonCode.EXIT_CODE, 3)
    assert bench.output("partial") == b"half\n"


def test_a_broken_table_is_a_note_and_no_failure(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo rubbish > result.csv")
    assert outcome.status is Status.SUCCEEDED
    assert any("result" in note for note in outcome.notes)


def test_an_input_with_other_bytes_than_its_hash_is_an_input_error(bench: Bench) -> None:
    bench.inputs = (replace_hash(bench.inputs[0]),)
    outcome = bench.run("true")
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (Status.FAILED, ReasonCode.INPUT_ERROR)
    assert bench.desk.statuses == []


def replace_hash(file: InputFile) -> InputFile:
    return file.model_copy(update={"sha256": "0" * 64})


def test_cancel_ends_the_whole_tree_and_keeps_outputs(bench: Bench) -> None:
    attempt = bench.make(Command(argv=("sh", "-c", "echo begun > begun; setsid sleep 600 & sleep 600")))
    carried = in_thread(attempt.carry)
    assert bench.desk.running.wait(20)
    until(lambda: attempt.execution.list_files() != [] and any(f[0] == "begun" for f in attempt.execution.list_files()))
    attempt.cancel()
    carried.join(30)
    assert bench.desk.outcome is not None
    assert bench.desk.outcome.status is Status.CANCELLED
    assert bench.output("begun") == b"begun\n"
    assert list(bench.scratch.iterdir()) == []


def test_cancel_before_the_commands_start_ends_at_once(bench: Bench) -> None:
    attempt = bench.make(Command(argv=("sleep", "600")))
    attempt.cancel()
    attempt.carry()
    assert bench.desk.outcome is not None
    assert bench.desk.outcome.status is Status.CANCELLED
    assert bench.desk.statuses == []


class Away:
    """A storage that does not answer for some calls, or until it is back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, calls: int) -> None:
        self.asked = threading.Event()
        self.calls = calls
        where = staging if name == "stage" else module
        self._real = getattr(where, name)
        monkeypatch.setattr(where, name, self)
        monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.01)

    def __call__(self, *arguments: object, **more: object) -> object:
        self.asked.set()
        self.calls -= 1
        if self.calls >= 0:
            raise StorageUnavailable
        return self._real(*arguments, **more)


@pytest.mark.parametrize("name", ["stage", "store_outputs", "commit_manifest"])
def test_a_storage_that_is_away_for_a_while_costs_no_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Away(monkeypatch, name, 3)
    outcome = bench.run("sh", "-c", "cat 'in put.txt' > result.csv")
    assert (outcome.status, outcome.stored) == (Status.SUCCEEDED, True)
    assert bench.output("result.csv") == b"41\n"


@pytest.mark.parametrize("name", ["stage", "store_outputs"])
def test_cancel_ends_the_wait_for_a_storage_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    away = Away(monkeypatch, name, 10**9)
    attempt = bench.make(Command(argv=("true",)))
    carried = in_thread(attempt.carry)
    assert away.asked.wait(20)
    attempt.cancel()
    carried.join(30)
    assert bench.desk.outcome is not None
    assert (bench.desk.outcome.status, bench.desk.outcome.stored) == (Status.CANCELLED, False)
    assert list(bench.scratch.iterdir()) == []


def test_a_cancelled_run_is_cancelled_also_where_its_outputs_cannot_be_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Away(monkeypatch, "store_outputs", 10**9)
    monkeypatch.setattr(module, "CANCELLED_PATIENCE", 0.0)
    attempt = bench.make(Command(argv=("sleep", "600")))
    carried = in_thread(attempt.carry)
    assert bench.desk.running.wait(20)
    attempt.cancel()
    carried.join(30)
    assert bench.desk.outcome is not None
    assert (bench.desk.outcome.status, bench.desk.outcome.stored) == (Status.CANCELLED, False)


def test_the_run_limit_ends_it_as_timed_out(bench: Bench) -> None:
    outcome = bench.run("sleep", "600", limits=Limits(run=0.5))
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (Status.TIMED_OUT, ReasonCode.TIME_LIMIT)


def limit_of(outcome: Outcome) -> tuple[Status, ReasonCode, object, object]:
    assert outcome.reason is not None
    evidence = outcome.reason.evidence
    return outcome.status, outcome.reason.code, evidence["limit"], evidence["seconds"]


def test_the_staging_limit_ends_an_attempt_whose_inputs_do_not_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Away(monkeypatch, "stage", 10**9)
    outcome = bench.run("true", limits=Limits(staging=0.3))
    assert limit_of(outcome) == (Status.TIMED_OUT, ReasonCode.TIME_LIMIT, "staging", 0.3)
    assert not outcome.stored
    assert bench.desk.statuses == []
    assert list(bench.scratch.iterdir()) == []


def test_the_staging_limit_ends_an_attempt_whose_environment_is_not_ready(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(_: object, spec: object, version: object, stopped: Callable[[], bool]) -> object:
        until(stopped)
        raise Stopped

    monkeypatch.setattr(Native, "prepare", prepare)
    outcome = bench.run("true", limits=Limits(staging=0.3))
    assert limit_of(outcome) == (Status.TIMED_OUT, ReasonCode.TIME_LIMIT, "staging", 0.3)


def test_the_staging_limit_is_over_once_the_commands_run(bench: Bench) -> None:
    script = "while [ ! -e go ]; do sleep 0.02; done"
    attempt = bench.make(Command(argv=("sh", "-c", script)), limits=Limits(staging=5))
    carried = in_thread(attempt.carry)
    assert bench.desk.running.wait(20)
    until(lambda: attempt._is_late())
    (attempt.execution.folder / "go").touch()
    carried.join(30)
    assert bench.desk.outcome is not None
    assert (bench.desk.outcome.status, bench.desk.outcome.stored) == (Status.SUCCEEDED, True)


@pytest.mark.parametrize(("code", "status"), [(0, Status.TIMED_OUT), (3, Status.FAILED)])
@pytest.mark.parametrize("name", ["store_outputs", "commit_manifest"])
def test_the_upload_limit_gives_the_outputs_up_and_leaves_no_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, code: int, status: Status
) -> None:
    Away(monkeypatch, name, 10**9)
    outcome = bench.run("sh", "-c", f"echo 42 > result.csv; exit {code}", limits=Limits(upload=0.3))
    assert (outcome.status, outcome.stored, outcome.exit_code) == (status, False, code)
    if code == 0:
        assert limit_of(outcome) == (Status.TIMED_OUT, ReasonCode.TIME_LIMIT, "upload", 0.3)
    # What the dispatcher finds when the report is lost is the same: there is no result.
    assert read_outcome(bench.store, TASK, 1) is None
    assert list(bench.scratch.iterdir()) == []


def test_outputs_that_were_stored_in_time_count_although_the_storage_answered_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.commit_manifest

    def commit_and_fall_silent(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise StorageUnavailable

    monkeypatch.setattr(module, "commit_manifest", commit_and_fall_silent)
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 600.0)
    outcome = bench.run("sh", "-c", "echo 42 > result.csv", limits=Limits(upload=0.5))
    assert (outcome.status, outcome.stored) == (Status.SUCCEEDED, True)
    assert bench.output("result.csv") == b"42\n"


def test_without_an_upload_limit_a_finished_computation_waits_for_the_storage(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Away(monkeypatch, "store_outputs", 3)
    outcome = bench.run("sh", "-c", "echo 42 > result.csv", limits=Limits(staging=60))
    assert (outcome.status, outcome.stored) == (Status.SUCCEEDED, True)


def test_a_stall_is_reported_while_the_attempt_goes_on(bench: Bench) -> None:
    script = "echo up; while [ ! -e go ]; do sleep 0.05; done"
    attempt = bench.make(Command(argv=("sh", "-c", script)), limits=Limits(stall=0.5))
    carried = in_thread(attempt.carry)
    until(lambda: bench.desk.stalls != [])
    (attempt.execution.folder / "go").touch()
    carried.join(30)
    assert bench.desk.stalls[0] == 1
    assert bench.desk.stalls == sorted(set(bench.desk.stalls))
    assert bench.desk.outcome is not None
    assert bench.desk.outcome.status is Status.SUCCEEDED


def test_a_stall_ends_the_attempt_where_that_was_asked_for_and_keeps_its_outputs(bench: Bench) -> None:
    script = "echo up; echo kept > kept; sleep 600"
    outcome = bench.run("sh", "-c", script, limits=Limits(stall=0.5, end_stalled=True))
    assert limit_of(outcome) == (Status.TIMED_OUT, ReasonCode.TIME_LIMIT, "stall", 0.5)
    assert bench.output("kept") == b"kept\n"
    assert outcome.stdout_tail == "up"


def test_too_much_memory_is_told_with_limit_and_peak(bench: Bench) -> None:
    program = "x = []\nwhile True: x.append(bytearray(5_000_000))"
    outcome = bench.run("python3", "-c", program, resources=Resources(memory=64 * MIB))
    assert outcome.reason is not None
    assert outcome.reason.code is ReasonCode.OUT_OF_MEMORY
    peak = outcome.reason.evidence["peak_memory"]
    assert isinstance(peak, int)
    assert peak > 60 * MIB
    assert (outcome.reason.evidence["limit"], outcome.peak_memory) == (64 * MIB, peak)


def test_too_much_disk_is_told_with_limit_and_size(bench: Bench) -> None:
    script = "while :; do head -c 2000000 /dev/zero >> big; sleep 0.05; done"
    outcome = bench.run("sh", "-c", script, resources=Resources(memory=512 * MIB, disk=8 * MIB))
    assert outcome.reason is not None
    assert outcome.reason.code is ReasonCode.DISK_FULL
    used = outcome.reason.evidence["used"]
    assert isinstance(used, int)
    assert used > outcome.reason.evidence["limit"] == 8 * MIB  # type: ignore[operator]


def test_the_last_of_what_a_failure_printed_is_kept_within_bounds_and_as_text(bench: Bench) -> None:
    script = "yes line | head -n 1000; printf 'last \\033[31m\\000 word\\r\\n'; printf 'bad \\377 byte' >&2; exit 3"
    outcome = bench.run("sh", "-c", script)
    assert outcome.stdout_tail.endswith("line\nlast \ufffd[31m\ufffd word")
    assert 900 < len(outcome.stdout_tail) <= 1000
    assert outcome.stderr_tail == "bad \ufffd byte"


def test_nothing_is_kept_of_what_a_success_printed_beside_its_log(bench: Bench) -> None:
    assert bench.run("sh", "-c", "echo fine").stdout_tail == ""


def test_a_superseded_attempt_stores_no_result_and_leaves_nothing(bench: Bench) -> None:
    attempt = bench.make(Command(argv=("sleep", "600")))
    carried = in_thread(attempt.carry)
    assert bench.desk.running.wait(20)
    bench.desk.refuse = True
    # The next report is refused: the move to finalizing, since nothing else is due before.
    attempt.execution.stop()
    carried.join(30)
    assert bench.desk.outcome is None
    assert list(bench.scratch.iterdir()) == []


def test_the_outcome_is_found_where_the_report_was_lost(bench: Bench) -> None:
    assert read_outcome(bench.store, TASK, 1) is None
    bench.run("true")
    stored = read_outcome(bench.store, TASK, 1)
    assert stored is not None
    assert Outcome.model_validate_json(stored) == bench.desk.outcome


def test_live_files_and_logs_can_be_read_and_nothing_outside(bench: Bench) -> None:
    script = "echo out; echo data > file; ln -s /etc/passwd leak; ln -s / root; mkdir sub; sleep 600"
    attempt = bench.make(Command(argv=("sh", "-c", script)))
    carried = in_thread(attempt.carry)
    execution = attempt.execution
    assert bench.desk.running.wait(20)
    until(lambda: (execution.folder / "sub").exists())
    assert execution.read_log(LogStream.STDOUT, 0, 100, 5.0) == (b"out\n", False)
    assert execution.read_log(LogStream.STDOUT, 2, 100, 5.0) == (b"t\n", False)
    assert execution.read_file("file", 1, 2) == b"at"
    for path in ("leak", "root/etc/passwd", "../control/plan.json", "/etc/passwd", "sub", "absent", "", "a\0b"):
        with pytest.raises(NotFound):
            execution.read_file(path, 0, 10)
    assert "leak" not in {name for name, _, _ in execution.list_files()}
    attempt.cancel()
    carried.join(30)


def test_a_look_that_the_end_overtook_says_so_and_gives_no_part_for_the_whole(bench: Bench) -> None:
    attempt = bench.make(Command(argv=("sh", "-c", "echo out")))
    attempt.carry()
    looks: list[Callable[[Execution], object]] = [
        lambda execution: execution.read_log(LogStream.STDOUT, 0, 100, 5.0),
        lambda execution: execution.list_files(),
        lambda execution: execution.read_file("file", 0, 1),
        lambda execution: execution.samples(),
    ]
    for look in looks:
        with pytest.raises(Superseded), attempt.look() as execution:
            look(execution)


def in_thread(call: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        with suppress(Superseded):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    waiting = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        waiting.wait(0.02)
    raise AssertionError("the condition did not come true in time")


def test_a_command_that_there_is_not_fails_like_in_a_shell(bench: Bench) -> None:
    outcome = bench.run("no-such-program")
    assert outcome.reason is not None
    assert (outcome.status, outcome.reason.code) == (Status.FAILED, ReasonCode.EXIT_CODE)
    assert outcome.reason.evidence == {"exit_code": 127}
    assert "no-such-program" in outcome.reason.message


def test_an_attempt_says_what_its_machine_had_of_its_inputs(bench: Bench) -> None:
    assert bench.run("sh", "-c", "echo changed >> 'in put.txt'").staged == Staged(fetched=3, kept=0)
    assert bench.run("cat", "in put.txt", attempt=2).staged == Staged(fetched=0, kept=3)
    assert bench.output(".simyard/stdout.log", attempt=2) == b"41\n"


def test_what_a_machine_keeps_gives_way_to_commands_that_fill_its_disk(bench: Bench, tmp_path: Path) -> None:
    attempt = bench.make(Command(argv=("sleep", "600")))
    carried = in_thread(attempt.carry)
    assert bench.desk.running.wait(20)
    assert list((tmp_path / "inputs").glob("*/*"))
    bench.disk = Disk(10**9, 10**9, 0)
    until(lambda: not list((tmp_path / "inputs").glob("*/*")))
    attempt.cancel()
    carried.join(30)
