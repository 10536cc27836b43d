from __future__ import annotations

import os
from pathlib import Path

import pytest

WEIRD = {
    "plain.inp": b"[TITLE]\n",
    "with space.txt": b"1",
    'quote\'s "two".txt': b"2",
    "line\nbreak.txt": b"3",
    "größe ☃.dat": b"4" * 5000,
    "-rf": b"5",
    "semi;colon & $HOME *?.txt": b"6",
    "empty.txt": b"",
    "/".join(["deep"] * 40) + "/file.txt": b"7",
    "run.sh": b"#!/bin/sh\n",
    ".hidden/.file": b"8",
}


@pytest.fixture
def weird_folder(tmp_path: Path) -> Path:
    """A folder with the names that break careless code."""
    folder = tmp_path / "wei rd ' \" ☃"
    for name, data in WEIRD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "run.sh").chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep tests away from the user's own profile."""
    for name in [name for name in os.environ if name.startswith("SIMYARD_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "config" / "profile.json"
    monkeypatch.setenv("SIMYARD_CONFIG", str(path))
    return path
