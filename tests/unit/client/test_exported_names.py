from __future__ import annotations

import subprocess
import sys

import simyard


def test_every_public_name_is_there_once_and_in_order() -> None:
    assert simyard.__all__ == sorted(set(simyard.__all__))
    for name in simyard.__all__:
        assert getattr(simyard, name).__name__ == {"TaskInfo": "Task", "SweepInfo": "Sweep"}.get(name, name)
    assert simyard.TaskInfo is not simyard.Task


def test_nothing_else_is_public() -> None:
    assert not hasattr(simyard, "Clients")
    assert set(simyard.__all__) <= set(dir(simyard))


def test_the_package_alone_imports_no_http_client() -> None:
    code = "import sys, simyard, simyard.cli; print(sorted({'httpx', 'rich', 'pydantic', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"
