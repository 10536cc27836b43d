"""The server killed at every single change that it makes to the disk while it takes tasks in, and while one ends."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simyard.files import Staged
from simyard.status import Status
from storage.local import LocalStore
from storage.manifest import read_manifest
from storage.paths import Paths
from storage.reader import read_entry
from storage.tables import read_table
from tasks.record import SweepQuery, TaskQuery
from tasks.sqlite import upkeep
from tasks.sqlite.store import SqliteStore
from tests.integration.crashes import driver, scenes

_MOST = 2000
"""More changes than any scene makes."""
_LARGE = 1000
"""Bytes from which on a write is also torn: the database writes a short head before each of its pages."""
_log = logging.getLogger(__name__)
_COMPILER = shutil.which("cc") or shutil.which("gcc")


class Crasher:
    """Carries scenes out in processes that die at a change of the disk."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", driver.__name__],
            cwd=Path(__file__).parents[3],
            # It may die as it tries whether files can be made in the folder for temporary ones.
            env={"PYTHONPATH": ":".join(sys.path), "LD_PRELOAD": str(library), "TMPDIR": str(library.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def carry_out(self, scene: str, folder: Path, at: int, *, torn: bool) -> list[dict[str, Any]]:
        """Return what was answered before the process died at the change of that number, and what ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([scene, str(folder), at, int(torn)]) + "\n")
        self._process.stdin.flush()
        news: list[dict[str, Any]] = []
        while "end" not in (said := json.loads(self._process.stdout.readline())):
            news.append(said)
        assert said["end"] == (-signal.SIGKILL if "died" in news[-1] else 0), news
        return news

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def crasher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crasher]:
    if _COMPILER is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("shim") / "crash.so"
    source = Path(__file__).with_name("crash.c")
    subprocess.run([_COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    crasher = Crasher(library)
    yield crasher
    crasher.close()


@dataclass
class Crash:
    """What a process left that died at a change of the disk."""

    where: str
    folder: Path
    answers: list[dict[str, Any]]


def crashes(crasher: Crasher, scene: str, template: Path) -> Iterator[Crash]:
    """Give what a scene leaves that dies before each of its changes, and after half of each large write.

    The last one is not interrupted.
    """
    folder = template.with_name("crashed")
    died = 0
    for at in range(1, _MOST):
        for torn in (False, True):
            scenes.copy(template, folder)
            *answers, last = crasher.carry_out(scene, folder, at, torn=torn)
            yield Crash(f"{last.get('died', 'none')}, change {at}", folder, answers)
            shutil.rmtree(folder)
            if "died" not in last:
                assert last["changes"] < at
                _log.info("%s: %d changes, died %d times", scene, at - 1, died)
                return
            died += 1
            if last["bytes"] < _LARGE:
                break
    raise AssertionError("the scene never ends")


def test_no_accepted_task_is_missing_and_none_is_half_there(crasher: Crasher, tmp_path: Path) -> None:
    template = tmp_path / "template"
    scenes.make_empty(template)
    accepted = 0
    for crash in crashes(crasher, "submission", template):
        accepted = look_at_tasks(crash, {answer["answered"]: answer["body"] for answer in crash.answers})
    assert accepted == len(scenes.NAMES) + scenes.CASES


def look_at_tasks(crash: Crash, answered: dict[str, Any]) -> int:
    """Look whether every task that was answered is in the store and nothing is in it in part; returns how many are."""
    where, folder = crash.where, crash.folder
    with closing(SqliteStore(folder / scenes.DATABASE)) as store:
        assert list(upkeep.check(folder / scenes.DATABASE)) == [], where
        storage = LocalStore(folder / scenes.STORAGE)
        records = store.list(TaskQuery(limit=100))
        for record in records:
            assert record.status is Status.QUEUED, where
            assert [event.task for event in store.events(task=record.id)] == [record.id], where
            inputs = store.inputs(record.id)
            assert inputs, where
            for file in inputs:
                assert len(storage.get(Paths.input(file.sha256))) == file.size, where
        tasks = {record.id: record.task for record in records}
        names = [task.name for task in tasks.values() if task.name is not None]
        assert len(names) == len(set(names)), where
        # A batch and a sweep are there whole or not at all.
        assert sum("batch" in name for name in names) in {0, 3}, where
        sweeps = store.list_sweeps(SweepQuery())
        cases = [task.case for task in tasks.values() if task.case is not None]
        assert len(cases) == len(sweeps) * scenes.CASES, where
        assert {case.sweep for case in cases} == {sweep.id for sweep in sweeps}, where
        for name, body in answered.items():
            match name:
                case "model" | "template":
                    assert storage.head(Paths.input(body["sha256"])) is not None, where
                case "batch":
                    for result in body["results"]:
                        assert tasks[result["task"]["id"]].model_dump(mode="json") == result["task"], where
                case "sweep":
                    assert body["id"] == sweeps[0].id, where
                case _:
                    assert tasks[body["id"]].model_dump(mode="json") == body, where
        return len(tasks)


def test_a_completion_is_whole_or_is_carried_on_to_the_same_result(
    crasher: Crasher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes.catalogue, "find", scenes.find)
    monkeypatch.setattr(scenes.outputs, "_BIG", scenes.BIG)
    template = tmp_path / "template"
    scenes.make_run(template)
    wanted: dict[str, Any] | None = None
    for crash in crashes(crasher, "completion", template):
        where = crash.where
        with scenes.Site(crash.folder) as site:
            assert list(upkeep.check(crash.folder / scenes.DATABASE)) == [], where
            record = site.store.get(scenes.TASK)
            if crash.answers:
                assert record.status is Status.SUCCEEDED, where
            if record.status.is_end:
                result_of(site)
            site.desk.recover()
            wanted = wanted or result_of(site)
            assert result_of(site) == wanted, where
    assert wanted is not None


def test_inputs_whose_staging_died_are_brought_by_the_next_one(crasher: Crasher, tmp_path: Path) -> None:
    template = tmp_path / "template"
    scenes.make_inputs(template)
    sizes = {hashlib.sha256(content).hexdigest(): len(content) for content in scenes.STAGED.values()}
    for crash in crashes(crasher, "staging", template):
        where, work = crash.where, crash.folder / scenes.WORK
        for entry in (crash.folder / scenes.KEPT).glob("*/*[0-9]"):
            assert entry.name in {f"{sha256}-{size}" for sha256, size in sizes.items()}, where
            assert hashlib.sha256(entry.read_bytes()).hexdigest() == entry.name.split("-")[0], where
        # Another attempt has a folder of its own.
        shutil.rmtree(work)
        work.mkdir()
        staged = scenes.stage_inputs(crash.folder)
        assert staged.fetched + staged.kept == sum(map(len, scenes.STAGED.values())), where
        assert {path: (work / path).read_bytes() for path in scenes.STAGED} == scenes.STAGED, where
        # Nothing half-written is left beside what is kept.
        assert len(list((crash.folder / scenes.KEPT).glob("*/*"))) == len(sizes), where
        assert scenes.stage_inputs(crash.folder) == Staged(fetched=0, kept=staged.fetched + staged.kept), where


def result_of(site: scenes.Site) -> dict[str, Any]:
    """Return all that a user sees of a task's result."""
    record = site.store.get(scenes.TASK)
    assert (record.status, record.task.result, record.attempt, record.losses) == (Status.SUCCEEDED, 1, 1, 0)
    entries = read_manifest(site.storage, scenes.TASK, 1)
    files = {entry.path: (entry.mode, entry.link, entry.sha256, entry.size) for entry in entries}
    for entry in entries:
        # Whole files are checked against their hash.
        assert sum(map(len, read_entry(site.storage, scenes.TASK, 1, entry))) == entry.size
    table = read_table(site.storage, "result", simulator="shell", project="default", task=scenes.TASK)
    [attempt] = record.task.attempts
    return {"files": files, "rows": table.to_pylist(), "exit_code": attempt.exit_code, "cpu": attempt.cpu_seconds}
