"""Files that are made once, in a real folder, by several processes and through power failures."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.secret import load_secret
from simyard.errors import InvalidInput
from storage.once import made_once
from storage.settings import Settings

_MAKE = "import sys, os; from pathlib import Path; from storage.once import made_once; "
_MAKE += "print(made_once(Path(sys.argv[1]), lambda: str(os.getpid())))"


def test_all_who_ask_at_a_time_get_the_same_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a new folder" / "file"
    processes = [
        subprocess.Popen([sys.executable, "-c", _MAKE, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    with ThreadPoolExecutor(8) as threads:
        mine = list(threads.map(lambda number: made_once(path, lambda: f"thread {number}"), range(8)))
    told = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert told == set(mine) == {path.read_text()}
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_on_disk_before_it_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flush, seen = tmp_path / "file", os.fsync, list[tuple[int, bool]]()

    def note(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    assert made_once(path, lambda: "text") == made_once(path, lambda: "another") == "text"
    assert seen == [(4, False)]


def test_a_crash_while_it_is_made_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"

    def fail(_: int) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="gone"):
            made_once(path, lambda: "first")
    assert list(tmp_path.iterdir()) == []
    assert made_once(path, lambda: "second") == "second"


@pytest.mark.parametrize("text", ["", "ab" * 31, "zz" * 32])
def test_a_damaged_secret_signs_nothing(tmp_path: Path, text: str) -> None:
    settings = Settings(data_dir=tmp_path)
    secret = load_secret(settings)
    assert (len(secret), load_secret(settings)) == (32, secret)
    (settings.server_dir / "secret").write_text(text)
    with pytest.raises(InvalidInput, match="damaged") as refused:
        load_secret(settings)
    assert text not in str(refused.value) or not text
