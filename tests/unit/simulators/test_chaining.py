"""Outputs of other tasks, brought into the folder of one that takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.chaining import take_outputs
from simulators.work import Taken
from simyard.dependency import InputFrom
from simyard.files import InputFile
from storage.errors import InputDamaged, InputMissing
from storage.manifest import commit_manifest
from storage.memory import MemoryStore
from storage.outputs import store_outputs
from storage.paths import Paths

PARENT, OTHER = "t00000000000a", "t00000000000b"


def run_of(store: MemoryStore, task: str, folder: Path, **files: bytes) -> None:
    """Store files, whose names have `__` for a slash, as the result of a task."""
    for name, data in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    log = folder.parent / f"{task}.log"
    log.write_bytes(b"printed")
    commit_manifest(store, task, 2, store_outputs(store, task, 2, folder, None, logs={"stdout.log": log}))


def taken(path: str, *, task: str = PARENT, into: str | None = None, attempt: int | None = 2) -> Taken:
    return Taken(task=task, attempt=attempt, what=InputFrom(task=task, path=path, into=into))


def own(path: str) -> InputFile:
    return InputFile(path=path, sha256="a" * 64, size=1)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    run_of(store, PARENT, tmp_path / "p", mesh__a=b"A", mesh__deep__b=b"B", out=b"O")
    run_of(store, OTHER, tmp_path / "o", out=b"other")
    return store


def test_what_matches_is_brought_and_nothing_else(store: MemoryStore, tmp_path: Path) -> None:
    target = tmp_path / "in"
    take_outputs(store, [taken("mesh/**")], [], target)
    assert files(target) == {"mesh/a": b"A", "mesh/deep/b": b"B"}


def test_logs_are_no_outputs(store: MemoryStore, tmp_path: Path) -> None:
    target = tmp_path / "in"
    take_outputs(store, [taken("**")], [], target)
    assert set(files(target)) == {"mesh/a", "mesh/deep/b", "out"}


def test_outputs_of_two_tasks_are_kept_apart_by_folders(store: MemoryStore, tmp_path: Path) -> None:
    target = tmp_path / "in"
    both = [taken("out", into="one"), taken("out", task=OTHER, into="two/deep")]
    take_outputs(store, both, [], target)
    assert files(target) == {"one/out": b"O", "two/deep/out": b"other"}


def test_files_of_its_own_go_before_outputs(store: MemoryStore, tmp_path: Path) -> None:
    target = tmp_path / "in"
    take_outputs(store, [taken("mesh/*"), taken("out")], [own("mesh/a")], target)
    assert files(target) == {"out": b"O"}


@pytest.mark.parametrize(
    ("asked", "mine", "error", "said"),
    [
        ([taken("*.msh")], [], InputMissing, "matches"),
        ([taken("out", attempt=None)], [], InputMissing, "stored no outputs"),
        ([taken("out", attempt=9)], [], InputMissing, "stored no outputs"),
        ([taken("out"), taken("out", task=OTHER)], [], InputDamaged, "both give 'out'"),
        ([taken("mesh/**")], [own("mesh")], InputDamaged, "both a file and a folder"),
        ([taken("out")], [own("out/mine")], InputDamaged, "both a file and a folder"),
    ],
    ids=["no match", "no result", "no manifest", "twice", "below a file", "above a file"],
)
def test_what_cannot_be_brought_is_said_before_anything_is(
    store: MemoryStore, tmp_path: Path, asked: list[Taken], mine: list[InputFile], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        take_outputs(store, asked, mine, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_damaged_outputs_are_damaged_inputs(store: MemoryStore, tmp_path: Path) -> None:
    store.put(Paths.pack(PARENT, 2, 0), b"\0" * len(store.get(Paths.pack(PARENT, 2, 0))))
    with pytest.raises(InputDamaged, match=PARENT):
        take_outputs(store, [taken("out")], [], tmp_path / "in")
