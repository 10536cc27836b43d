"""The dispatcher's bell, a named pipe in a real folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.bell import Bell, ring

LONG, SOON = 60.0, 0.01


def took(bell: Bell, seconds: float) -> float:
    began = time.monotonic()
    bell.wait(seconds)
    return time.monotonic() - began


def test_a_ring_of_another_process_ends_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "a bell's file"
    bell = Bell(path)
    call = "import sys; from pathlib import Path; from tasks.bell import ring; ring(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", call, str(path)]) as other:
        assert took(bell, LONG) < LONG
    assert other.returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_rings_before_a_wait_count_once(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bell")
    for _ in range(100):
        bell.ring()
        ring(tmp_path / "bell")
    assert took(bell, LONG) < LONG
    assert took(bell, SOON) >= SOON


def test_a_ring_of_another_thread_ends_a_wait_that_goes_on(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bell")
    threading.Timer(SOON, bell.ring).start()
    assert took(bell, LONG) < LONG


def test_nobody_waits_who_rings_a_bell_that_nobody_hears(tmp_path: Path) -> None:
    bell, path = Bell(tmp_path / "bell"), tmp_path / "bell"
    # More than the pipe holds.
    for _ in range(70_000):
        bell.ring()
    ring(path)
    assert took(bell, LONG) < LONG
    assert took(bell, SOON) >= SOON


def test_the_next_dispatcher_hears_what_was_meant_for_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "bell"
    with pytest.raises(FileNotFoundError):
        ring(path)
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device") as nobody:
        ring(path)
    assert nobody.value.errno == errno.ENXIO
    bell = Bell(path)
    ring(path)
    assert took(bell, LONG) < LONG


@pytest.mark.parametrize("name", ["missing/bell", "file"])
def test_a_bell_without_its_file_is_heard_in_its_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "file").write_text("something else")
    bell = Bell(tmp_path / name)
    assert "only this process" in caplog.text
    bell.ring()
    assert took(bell, LONG) < LONG
    assert took(bell, SOON) >= SOON
