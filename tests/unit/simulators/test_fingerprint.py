"""Which tasks compute the same, and which do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulators.fingerprint import fingerprint_of, simulator_digest
from simyard.files import InputFile
from simyard.resources import GIB, Limits, Resources
from simyard.simulator import Command, RuntimeName
from simyard.task import TaskSpec

A, B = InputFile(path="a.inp", sha256="a" * 64, size=1), InputFile(path="b", sha256="b" * 64, size=2)


def of(**changes: Any) -> str:
    spec = {
        "simulator": "swmm",
        "version": "5.2.4",
        "runtime": RuntimeName.NATIVE,
        "parameters": {"input_file": "a.inp"},
        "commands": (Command(argv=("runswmm", "a.inp")),),
        "inputs": (A, B),
    }
    return fingerprint_of(TaskSpec(**(spec | changes)))


@pytest.mark.parametrize(
    "change",
    [
        {"version": "5.2.3"},
        {"runtime": RuntimeName.PODMAN},
        {"project": "other"},
        {"commands": (Command(argv=("runswmm", "b")),)},
        {"commands": (Command(argv=("runswmm", "a.inp"), stdin="y"),)},
        {"commands": (Command(argv=("runswmm", "a.inp"), environment={"SEED": "2"}),)},
        {"parameters": {}},
        {"resources": Resources(cpus=2)},
        {"resources": Resources(gpus=1)},
        {"inputs": (A,)},
        {"inputs": (A, B.model_copy(update={"sha256": "c" * 64}))},
        {"inputs": (A, B.model_copy(update={"path": "c"}))},
        {"inputs": (A, B.model_copy(update={"mode": 0o755}))},
    ],
    ids=str,
)
def test_what_can_change_a_result_counts(change: dict[str, Any]) -> None:
    assert of(**change) != of()


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (B, A)},
        {"resources": Resources(memory=3 * GIB, disk=GIB)},
        {"limits": Limits(run=60)},
        {"priority": 3, "name": "n", "metadata": {"a": 1}, "retries": 2, "group": "big", "reuse": True},
    ],
    ids=str,
)
def test_what_cannot_change_a_result_does_not_count(change: dict[str, Any]) -> None:
    assert of(**change) == of()


def test_the_fingerprints_of_earlier_results_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.fingerprint.simulator_digest", lambda _: "0" * 64)
    command = Command(argv=("runswmm", "Zürich 'a'.inp"), stdin="y\n", environment={"SEED": "2"})
    kept = "38f4271988d6e54d7f0090a9bea3b3e57cccacaa9c6dc01d1be91a0d348b785c"
    assert of(commands=(command,), resources=Resources(cpus=0.5)) == kept


def test_a_simulator_is_another_one_when_its_folder_changes_but_for_its_examples(tmp_path: Path) -> None:
    def digest(files: dict[str, str]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "sim"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return simulator_digest("sim", folder.parent)

    first = digest({"spec.py": "1", "run.py": "2"})
    assert digest({"spec.py": "1", "run.py": "2", "example/a.inp": "x", "__pycache__/b.pyc": "y"}) == first
    assert digest({"spec.py": "1", "run.py": "3"}) != first
    assert digest({"spec.py": "12", "run.py": ""}) != first
    assert digest({"spec.py": "1", "sub/run.py": "2"}) != first


def test_what_a_whole_machine_gives_is_not_known_beforehand() -> None:
    assert of(resources=Resources(whole_machine=True)) is None
