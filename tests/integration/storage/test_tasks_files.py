"""A task's files on their way through every kind of storage: inputs, outputs, manifest, tables."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from simyard.files import InputFile
from storage.errors import AlreadyExists, InputDamaged, InputMissing, ObjectNotFound
from storage.inputs import put_input, stage, stored_sizes
from storage.manifest import commit_manifest, read_manifest
from storage.objects import ObjectStore
from storage.outputs import store_outputs, take_stamps
from storage.paths import Paths
from storage.reader import read_entry, restore, zip_entries
from storage.tables import list_tables, read_table, write_table

TASK = "t0123456789ab"


@pytest.mark.parametrize("count", [0, 1, 2, 64, 65, 200])
def test_the_sizes_of_any_number_of_inputs_are_told(store: ObjectStore, count: int) -> None:
    there = {put_input(store, b"%d" % i): len(b"%d" % i) for i in range(count)}
    absent = [f"{i:064x}" for i in range(count // 2)]
    want = there | dict.fromkeys(absent)
    assert stored_sizes(store, [*absent, *there, *absent]) == want


def test_a_task_goes_from_inputs_to_restored_outputs(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "big input").write_bytes(os.urandom(20_000_000))
    first, second = put_input(store, b"#!/bin/sh\n"), put_input(store, tmp_path / "big input")
    assert put_input(store, b"#!/bin/sh\n") == first
    assert stored_sizes(store, [first, second, "0" * 64]) == {first: 10, second: 20_000_000, "0" * 64: None}

    work = tmp_path / "work"
    work.mkdir()
    files = [
        InputFile(path="run me.sh", sha256=first, size=10, mode=0o755),
        InputFile(path="sub/ünï\n'mesh'.bin", sha256=second, size=20_000_000),
    ]
    stage(store, files, work)
    assert (work / "run me.sh").stat().st_mode & 0o777 == 0o755
    assert (work / "sub/ünï\n'mesh'.bin").read_bytes() == (tmp_path / "big input").read_bytes()

    before = take_stamps(work)
    expected = {
        "out/result.txt": b"text " * 100_000,
        "out/noise.bin": os.urandom(3_000_000),
        "out/empty": b"",
        'weird\n"quoted" 100%.dat': b"w",
        "huge.bin": os.urandom(1 << 20) * 65,
    }
    for path, data in expected.items():
        (work / path).parent.mkdir(exist_ok=True)
        (work / path).write_bytes(data)
    (work / "out/latest").symlink_to("result.txt")
    log = tmp_path / "stdout.log"
    log.write_bytes(b"line\n" * 10)
    entries = store_outputs(store, TASK, 1, work, before, logs={"stdout.log": log})
    commit_manifest(store, TASK, 1, entries)

    found = read_manifest(store, TASK, 1)
    assert {entry.path for entry in found} == {*expected, "out/latest", ".simyard/stdout.log"}
    for entry in found:
        if entry.path in expected:
            assert b"".join(read_entry(store, TASK, 1, entry)) == expected[entry.path]
            assert b"".join(read_entry(store, TASK, 1, entry, 3, 5)) == expected[entry.path][3:8]
    restore(store, TASK, 1, found, tmp_path / "restored")
    for path, data in expected.items():
        assert (tmp_path / "restored" / path).read_bytes() == data
        assert (tmp_path / "restored" / path).stat().st_mtime_ns == (work / path).stat().st_mtime_ns
    assert (tmp_path / "restored/out/latest").readlink() == Path("result.txt")
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_entries(store, TASK, 1, found)))) as archive:
        assert archive.testzip() is None
        assert all(archive.read(path) == data for path, data in expected.items())
    with zipfile.ZipFile(io.BytesIO(store.get(Paths.pack(TASK, 1, 0)))) as pack:
        assert pack.read("out/result.txt") == expected["out/result.txt"]


def test_an_input_that_is_absent_or_damaged_is_not_staged(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        stage(store, [InputFile(path="a", sha256="0" * 64, size=1)], tmp_path)
    sha256 = put_input(store, b"good")
    store.put(Paths.input(sha256), b"evil")
    with pytest.raises(InputDamaged):
        stage(store, [InputFile(path="a", sha256=sha256, size=4)], tmp_path)
    assert list(tmp_path.iterdir()) == [] or list(tmp_path.iterdir()) == [tmp_path / "the store, 100% 'ü'"]


def test_only_one_set_of_entries_becomes_the_result(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    entries = store_outputs(store, TASK, 1, tmp_path / "nothing here", None, logs={"stdout.log": tmp_path / "log"})
    with pytest.raises(ObjectNotFound):
        read_manifest(store, TASK, 1)
    commit_manifest(store, TASK, 1, entries)
    commit_manifest(store, TASK, 1, entries)
    with pytest.raises(AlreadyExists):
        commit_manifest(store, TASK, 1, [])
    assert read_manifest(store, TASK, 1) == entries
    commit_manifest(store, TASK, 2, [])
    assert read_manifest(store, TASK, 2) == []


def test_a_table_is_kept_for_each_task(store: ObjectStore) -> None:
    table = pa.table({"time": [0.0, 1.0], "flow": [1.5, None]})
    for _ in range(2):
        write_table(store, "summary", table, simulator="swmm", project="default", task=TASK)
    assert read_table(store, "summary", simulator="swmm", project="default", task=TASK).equals(table)
    asked = ["series", "summary"]
    assert list_tables(store, asked, simulator="swmm", project="default", task=TASK) == ("summary",)
    with pytest.raises(ObjectNotFound):
        read_table(store, "series", simulator="swmm", project="default", task=TASK)
