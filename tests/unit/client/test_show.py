"""Tables that fit the terminal."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from simyard.cli.projects import list_projects
from simyard.cli.show import narrowed, say_table
from simyard.cli.text import count, part
from simyard.project import Project

GIB = 1024**3


def test_the_widest_columns_give_way_until_all_fit() -> None:
    assert narrowed([10, 40], 60) == [10, 40]
    assert narrowed([10, 40], 30) == [10, 20]
    assert narrowed([30, 40], 30) == [15, 15]
    assert narrowed([30, 40], 5) == [8, 8], "something is always seen"
    assert narrowed([3, 40], 5) == [3, 8]
    assert narrowed([], 5) == []


def test_numbers_behind_a_long_name_are_never_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    row = ("group", "a-name-of-a-machine-that-is-longer-than-all.the.terminal.has", "123456789", "987654321")
    say_table(("GROUP", "MACHINE", "FREE", "OF"), [row], fixed=(0, 2, 3), right=(2, 3))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[1].endswith("123456789  987654321")
    assert "…" in lines[1]


def test_a_project_with_a_long_name_leaves_its_numbers_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Project(
        name="p" * 63, paused=False, queued=True, running=1000, running_quota=2000, cpus=1000.0, cpus_quota=2000.0
    )
    client = SimpleNamespace(projects=SimpleNamespace(list=lambda: [one]))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("simyard.cli.session.connect", lambda: nullcontext(client))
    list_projects()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "1000 of 2000  1000 of 2000" in lines[1]


def test_parts_and_numbers_read_as_people_say_them() -> None:
    assert part(20 * GIB, 27 * GIB) == "20/27 GiB"
    assert part(GIB / 2, 2 * GIB) == "512 MiB/2 GiB"
    assert (count(1, "task", "tasks"), count(2, "task", "tasks"), count(None, "task", "tasks")) == (
        "1 task",
        "2 tasks",
        "0 tasks",
    )
