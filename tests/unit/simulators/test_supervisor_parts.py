from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from simulators import supervisor
from simulators.supervisor import Process, cgroups, processes, stall
from simulators.supervisor.cgroups import CgroupMeter
from simulators.supervisor.disk import DiskMeter, shortage
from simulators.supervisor.ends import LaunchError
from simulators.supervisor.events import Events
from simulators.supervisor.logs import Log
from simulators.supervisor.programs import find_program
from simulators.supervisor.stall import Stall


def process(parent: int, *, alive: bool = True) -> Process:
    return Process(parent, 1, alive, 0, 0, 0)


class TestLog:
    def test_keeps_bytes_up_to_its_limit_and_counts_the_rest(self, tmp_path: Path) -> None:
        log = Log(str(tmp_path / "log"), 10)
        for piece in (b"abc", b"defgh", b"ijKL", b"MN"):
            log.write(memoryview(piece))
        log.close()
        content = (tmp_path / "log").read_bytes()
        assert content.startswith(b"abcdefghij\n[")
        assert b" 4 bytes" in content

    def test_says_nothing_of_its_own_below_the_limit(self, tmp_path: Path) -> None:
        log = Log(str(tmp_path / "log"), 3)
        log.write(memoryview(b"abc"))
        log.close()
        assert (tmp_path / "log").read_bytes() == b"abc"


class TestDiskMeter:
    def measure(self, *paths: Path) -> int:
        meter = DiskMeter([str(path) for path in paths])
        meter.finish(10)
        return meter.used

    def test_sums_up_all_folders_below(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "x").write_bytes(b"x" * 100_000)
        (tmp_path / "a" / "b" / "y").write_bytes(b"x" * 200_000)
        assert 300_000 <= self.measure(tmp_path) < 350_000

    def test_a_sparse_file_counts_what_it_takes(self, tmp_path: Path) -> None:
        with (tmp_path / "sparse").open("wb") as file:
            file.truncate(10**9)
        assert self.measure(tmp_path) < 10**6

    def test_a_file_with_two_names_counts_once(self, tmp_path: Path) -> None:
        (tmp_path / "one").write_bytes(b"x" * 500_000)
        (tmp_path / "two").hardlink_to(tmp_path / "one")
        assert self.measure(tmp_path) < 600_000

    def test_links_are_not_followed_and_absent_folders_are_empty(self, tmp_path: Path) -> None:
        (tmp_path / "up").symlink_to("/")
        assert self.measure(tmp_path, tmp_path / "absent") < 100_000

    def test_a_walk_goes_on_where_its_time_ended(self, tmp_path: Path) -> None:
        for i in range(300):
            (tmp_path / f"{i}").write_bytes(b"x" * 4096)
        meter = DiskMeter([str(tmp_path)])
        rounds = 0
        while not meter.used:
            meter.advance(1e-9)
            rounds += 1
        assert rounds > 2
        assert meter.used >= 300 * 4096

    def test_growth_is_what_came_after_the_begin(self, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(b"x" * 500_000)
        besides = [0]
        meter = DiskMeter([str(tmp_path)], lambda: besides[0])
        assert meter.growth() == (0, 0)
        meter.finish(10)
        meter.begin()
        assert meter.growth() == (0, 0)
        (tmp_path / "output").write_bytes(b"x" * 200_000)
        besides[0] = 1000
        meter.finish(10)
        grown, files = meter.growth()
        assert 201_000 <= grown < 250_000
        assert files == 1

    def test_growth_counts_from_the_lowest_point_of_late(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_bytes(b"x" * 400_000)
        meter = DiskMeter([str(tmp_path)])
        meter.finish(10)
        (tmp_path / "old").unlink()
        meter.finish(10)
        (tmp_path / "new").write_bytes(b"x" * 100_000)
        meter.finish(10)
        assert 100_000 <= meter.growth()[0] < 150_000

    def test_a_walk_sees_that_a_file_was_written_renamed_or_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"abc")
        meter = DiskMeter([str(tmp_path)])

        def sees(change: Callable[[], object]) -> bool:
            meter.finish(10)
            before = meter.changed_at
            change()
            meter.finish(10)
            return meter.changed_at > before

        assert not sees(path.read_bytes)
        assert sees(lambda: path.write_bytes(b"abd"))
        assert sees(lambda: path.rename(tmp_path / "other"))
        assert sees((tmp_path / "other").unlink)
        assert not sees(lambda: None)


class Elsewhere:
    """A file system as statvfs shows it: blocks of one byte."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int, free: int, files: int = 100) -> None:
        said = SimpleNamespace(f_blocks=size, f_frsize=1, f_bavail=free, f_files=1000, f_favail=files)
        monkeypatch.setattr(os, "statvfs", lambda path: said)


class TestShortage:
    def test_there_is_none_while_the_reserve_is_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Elsewhere(monkeypatch, 10**6, 1000)
        assert shortage("/", 1000) is None
        assert shortage("/", 1001) is not None

    def test_the_reserve_of_a_small_disk_is_a_twentieth_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Elsewhere(monkeypatch, 1000, 50)
        assert shortage("/", 10**6) is None
        Elsewhere(monkeypatch, 1000, 49)
        assert shortage("/", 10**6) is not None

    @pytest.mark.parametrize(
        ("free", "grown", "ends"),
        [(400, 101, True), (400, 100, False), (400, 0, False), (0, 0, False), (0, 1, True), (8, 3, True)],
    )
    def test_it_ends_the_run_that_grows_and_no_other(
        self, monkeypatch: pytest.MonkeyPatch, free: int, grown: int, ends: bool
    ) -> None:
        Elsewhere(monkeypatch, 10**6, free)
        found = shortage("/", 1000, (grown, 1))
        assert found is not None
        assert found.is_of_the_run is ends
        assert found.evidence == {"free": free, "grew": grown}
        assert f"{free} bytes are free" in str(found)

    def test_a_disk_without_room_for_files_ends_the_run_that_made_some(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Elsewhere(monkeypatch, 10**6, 10**5, files=0)
        for files, ends in ((0, False), (3, True)):
            found = shortage("/", 1000, (10**5, files))
            assert found is not None
            assert found.is_of_the_run is ends
            assert "no more files" in str(found)


class TestStall:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [1000.0]
        monkeypatch.setattr(stall, "time", SimpleNamespace(monotonic=lambda: now[0]))
        return now

    def seen(self, seconds: float | None) -> tuple[Stall, SimpleNamespace, SimpleNamespace]:
        output, disk = SimpleNamespace(spoke_at=0.0), SimpleNamespace(looked_at=1000.0, changed_at=0.0)
        found = Stall(seconds, output, disk)  # type: ignore[arg-type]
        found.begin()
        return found, output, disk

    def test_it_is_told_once_until_there_is_output_again(self, now: list[float]) -> None:
        found, output, disk = self.seen(10)
        told = []
        for second in range(40):
            disk.looked_at = 1000.0 + second
            if second == 25:
                output.spoke_at = 1025.0
            if found.has_begun():
                told.append(second)
        assert told == [10, 35]
        assert found.count == 2

    def test_a_file_that_was_written_is_output(self, now: list[float]) -> None:
        found, _, disk = self.seen(10)
        disk.changed_at, disk.looked_at = 1009.0, 1018.9
        assert not found.has_begun()
        disk.looked_at = 1019.0
        assert found.has_begun()

    def test_what_a_slow_walk_has_not_seen_yet_is_not_taken_for_silence(self, now: list[float]) -> None:
        found, _, disk = self.seen(10)
        now[0], disk.looked_at = 5000.0, 1009.0
        assert not found.has_begun()

    def test_a_command_that_starts_is_output(self, now: list[float]) -> None:
        found, _, disk = self.seen(10)
        now[0] = 1008.0
        found.begin()
        disk.looked_at = 1017.9
        assert not found.has_begun()

    def test_without_a_time_nothing_is_told(self, now: list[float]) -> None:
        found, _, disk = self.seen(None)
        disk.looked_at = 10**9
        assert not found.has_begun()


class TestPrograms:
    def test_is_found_on_the_path(self, tmp_path: Path) -> None:
        (tmp_path / "tool").touch(0o755)
        assert find_program("tool", "/", f"/nowhere:{tmp_path}") == f"{tmp_path}/tool"

    def test_one_that_may_not_be_run_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "tool").touch(0o644)
        with pytest.raises(LaunchError, match="'tool'"):
            find_program("tool", "/", str(tmp_path))

    def test_a_word_with_a_slash_means_a_file_of_the_task(self, tmp_path: Path) -> None:
        (tmp_path / "tool").touch(0o755)
        assert find_program("./tool", str(tmp_path), "") == f"{tmp_path}/./tool"
        with pytest.raises(LaunchError, match=r"\./other"):
            find_program("./other", str(tmp_path), "")


class TestProcesses:
    def test_descendants_are_found_at_any_depth(self) -> None:
        everyone = {1: process(0), 5: process(1), 6: process(5), 7: process(6), 8: process(1)}
        assert set(supervisor.descendants({5}, everyone)) == {6, 7}
        assert set(supervisor.descendants({5, 6}, everyone)) == {6, 7}

    def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fields = ["S", "77", "78", *["0"] * 8, "1", "2", "3", "4", *["0"] * 4, "99", "0", "10", *["0"] * 20]
        line = f"42 (a) S 1 (b) {' '.join(fields)}\n".encode()
        monkeypatch.setattr(processes, "read_small", lambda _: line)
        found = supervisor.read_process(42)
        assert found == Process(77, 78, True, 99, 10, 10 * os.sysconf("SC_PAGE_SIZE"))

    def test_this_process_and_its_mark_are_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        me = os.getpid()
        everyone = {me: process(1)}
        environment = Path(f"/proc/{me}/environ").read_bytes().split(b"\0")[0].decode()
        name, _, value = environment.partition("=")
        assert set(supervisor.marked(name, value, everyone)) == {me}
        assert supervisor.marked(name, value + "x", everyone) == {}
        assert supervisor.marked("SIMYARD_BOX", "none", everyone) == {}


class TestCgroupMeter:
    @pytest.fixture
    def files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        real = supervisor.read_small
        monkeypatch.setattr(cgroups, "_CGROUPS", str(tmp_path))
        monkeypatch.setattr(
            cgroups,
            "read_small",
            lambda path: (tmp_path / "lines").read_bytes() if path == "/proc/9/cgroup" else real(path),
        )
        return tmp_path

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_reads_version_1(self, files: Path) -> None:
        self.write(files / "lines", "4:memory:/pod/c\n2:cpu,cpuacct:/pod/c\n0::/pod/c\n")
        self.write(files / "memory/pod/c/memory.usage_in_bytes", "1000\n")
        self.write(files / "memory/pod/c/memory.max_usage_in_bytes", "5000\n")
        self.write(files / "memory/pod/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
        self.write(files / "cpuacct/pod/c/cpuacct.usage", "2500000000\n")
        meter = CgroupMeter()
        assert meter.follow(9, "")
        meter.look(0, now=0.0)
        assert (meter.memory, meter.peak, meter.cpu_seconds, meter.is_out_of_memory) == (1000, 5000, 2.5, False)
        self.write(files / "memory/pod/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
        meter.look(0, now=0.0)
        assert meter.is_out_of_memory

    def test_reads_version_2(self, files: Path) -> None:
        self.write(files / "cgroup.controllers", "cpu memory pids\n")
        self.write(files / "lines", "0::/pod/c\n")
        self.write(files / "pod/c/memory.current", "1000\n")
        self.write(files / "pod/c/memory.peak", "5000\n")
        self.write(files / "pod/c/memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n")
        self.write(files / "pod/c/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
        meter = CgroupMeter()
        assert meter.follow(9, "")
        meter.look(0, now=0.0)
        assert (meter.memory, meter.peak, meter.cpu_seconds, meter.is_out_of_memory) == (1000, 5000, 2.5, True)

    def test_a_group_that_is_gone_leaves_the_last_figures_and_the_next_adds_up(self, files: Path) -> None:
        self.write(files / "lines", "2:cpuacct:/c\n4:memory:/c\n")
        self.write(files / "memory/c/memory.usage_in_bytes", "1000\n")
        self.write(files / "cpuacct/c/cpuacct.usage", "1000000000\n")
        meter, events = CgroupMeter(), Events()
        assert meter.follow(9, "")
        meter.look(0, now=0.0)
        (files / "memory/c/memory.usage_in_bytes").unlink()
        meter.look(0, now=0.0)
        assert (meter.memory, meter.cpu_seconds) == (1000, 1.0)
        meter.forget(events)
        assert not meter.is_following
        self.write(files / "cpuacct/c/cpuacct.usage", "500000000\n")
        assert meter.follow(9, "")
        meter.look(0, now=0.0)
        assert meter.cpu_seconds == 1.5

    def test_the_engines_own_group_is_not_taken_for_the_containers(self, files: Path) -> None:
        self.write(files / "lines", "4:memory:/docker\n2:cpuacct:/docker\n")
        self.write(files / "memory/docker/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n")
        meter = CgroupMeter()
        assert not meter.follow(9, "4f0c")
        meter.look(0, now=0.0)
        assert (meter.is_following, meter.is_out_of_memory) == (False, False)
        self.write(files / "lines", "4:memory:/docker/4f0c\n2:cpuacct:/docker/4f0c\n")
        assert meter.follow(9, "4f0c")
