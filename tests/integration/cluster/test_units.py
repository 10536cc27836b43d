"""The units by which systemd runs a server, and a host that joins one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "cluster" / "launch"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["simyard.service", "simyard-join.service"])
def test_systemd_has_nothing_to_say_against_the_unit(name: str, tmp_path: Path) -> None:
    text = (FOLDER / name).read_text()
    assert "/opt/simyard/.venv/bin/simyard" in text
    (tmp_path / name).write_text(text.replace("/opt/simyard/.venv", sys.prefix))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
