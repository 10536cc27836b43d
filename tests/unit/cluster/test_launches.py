"""What came of asking for machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.launches import FIRST_WAIT, LONGEST_WAIT, Launches, after, read_troubles


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_node_type_that_failed_waits_longer_each_time_and_is_forgiven_at_once(tmp_path: Path) -> None:
    clock = Clock()
    launches = Launches(tmp_path / "launches.json", clock)
    assert launches.waits("a") is None
    waits = []
    for count in range(1, 9):
        launches.failed("a", "VcpuLimitExceeded", "You have no more.")
        trouble = launches.waits("a")
        assert trouble is not None
        assert (trouble.count, trouble.since) == (count, 1000.0)
        waits.append(trouble.next_try - clock.now)
        assert launches.waits("b") is None
        clock.now = trouble.next_try
        assert launches.waits("a") is None
    assert FIRST_WAIT * 0.75 <= waits[0] <= FIRST_WAIT * 1.25
    assert LONGEST_WAIT * 0.75 <= waits[-1] <= LONGEST_WAIT * 1.25
    launches.succeeded("a")
    assert read_troubles(tmp_path / "launches.json") == {}


def test_many_that_fail_together_count_once(tmp_path: Path) -> None:
    clock = Clock()
    launches = Launches(tmp_path / "launches.json", clock)
    for _ in range(100):
        launches.failed("a", "InsufficientInstanceCapacity", "None left.")
    assert read_troubles(tmp_path / "launches.json")["a"].count == 1


def test_another_process_reads_the_same_and_goes_on_with_it(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "launches.json"
    Launches(path, clock).failed("a", "Strange", "Nobody knows.")
    trouble = read_troubles(path)["a"]
    assert (trouble.code, trouble.message) == ("Strange", "Nobody knows.")
    assert "monitor.log" in trouble.fix
    again = Launches(path, clock)
    assert again.waits("a") == trouble


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": {"code": 1}}', '{"a": 3}'])
def test_a_damaged_file_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "launches.json").write_text(text)
    assert read_troubles(tmp_path / "launches.json") == {}


def test_a_disk_that_is_full_keeps_no_machine_from_starting(tmp_path: Path) -> None:
    launches = Launches(tmp_path / "gone" / "launches.json", Clock())
    launches.failed("a", "Strange", "Nobody knows.")
    assert launches.waits("a") is not None


def test_what_can_be_done_is_said_for_each_kind_of_error() -> None:
    for code, told in (
        ("InsufficientInstanceCapacity", "further machine types"),
        ("VcpuLimitExceeded", "higher quota"),
        ("UnauthorizedOperation", "IAM profile"),
        ("InvalidAMIID.NotFound", "ImageId"),
    ):
        assert told in after(None, code, "", 0.0, 0.5).fix
