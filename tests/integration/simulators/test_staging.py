"""Filling a task's folder, on its first machine and on each of the others alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.staging import bring_inputs, kept_inputs
from simulators.work import Work
from simyard.files import InputFile
from simyard.resources import Limits, Resources
from simyard.simulator import Command, RuntimeName
from storage.errors import InputMissing
from storage.inputs import put_input
from storage.memory import MemoryStore
from storage.paths import Paths
from storage.settings import load_settings

CONTENT = b"a mesh\n"


def test_a_machine_keeps_inputs_of_a_storage_that_is_elsewhere_unless_it_is_told_not_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kept_inputs("s3://bucket/prefix") is not None
    assert kept_inputs("file:///srv/storage") is None
    monkeypatch.setenv("SIMYARD_KEEP_INPUTS", "0")
    load_settings.cache_clear()
    try:
        assert kept_inputs("s3://bucket/prefix") is None
    finally:
        load_settings.cache_clear()


def test_what_is_kept_is_not_fetched_again(tmp_path: Path) -> None:
    store = MemoryStore()
    file = InputFile(path="mesh.inp", sha256=put_input(store, CONTENT), size=len(CONTENT))
    work = Work(
        task="t0000000000000",
        attempt=1,
        simulator="swmm",
        version="1",
        runtime=RuntimeName.NATIVE,
        parameters={},
        commands=(Command(argv=("true",)),),
        inputs=(file,),
        resources=Resources(),
        limits=Limits(),
        project="default",
        storage="s3://bucket/prefix",
    )
    kept = kept_inputs(work.storage)
    brought = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        brought.append(bring_inputs(store, work, folder, kept, lambda: False))
        assert (folder / "mesh.inp").read_bytes() == CONTENT
        store.delete([Paths.input(file.sha256)])
    assert [(one.fetched, one.kept) for one in brought] == [(len(CONTENT), 0), (0, len(CONTENT))]
    with pytest.raises(InputMissing, match="never uploaded"):
        bring_inputs(store, work, tmp_path / "0", None, lambda: False)
