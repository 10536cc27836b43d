"""The guard against namesakes of the server's folders."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from storage import rooms

ROOT = Path(__file__).parents[3]


def test_the_five_folders_are_ours() -> None:
    rooms.check_rooms()
    for name in rooms.ROOMS:
        found = find_spec(name)
        assert found is not None
        assert found.origin == str(ROOT / name / "__init__.py")


def test_a_namesake_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> ModuleSpec | None:
        foreign = ModuleSpec(name, None, origin=f"/elsewhere/{name}/__init__.py")
        return foreign if name == "cluster" else find_spec(name)

    monkeypatch.setattr(rooms, "find_spec", find)
    with pytest.raises(rooms.ForeignRoom, match="'cluster' comes from /elsewhere"):
        rooms.check_rooms()


def test_the_client_needs_none_of_them() -> None:
    program = (
        "import sys, simyard.client, simyard.cli.app, simyard.handle;"
        "print([m for m in sys.modules if m.split('.')[0] in {'cluster','serve','simulators','storage','tasks','ray',"
        "'boto3','pyarrow','obstore'}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
