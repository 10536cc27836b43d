from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from simyard.connection import Connection
from simyard.errors import InvalidInput, StillGoing
from simyard.resources import GIB
from simyard.status import Status
from storage.tables import write_table
from tasks.record import TaskQuery
from tasks.stimulus import Cancel
from tests.integration.client.conftest import Served
from tests.integration.serve.server import wait_for

INPUT = ("-p", "input_file=town.inp")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "town.inp.jinja").write_text("n {{ n }}\n")
    (folder / "rain.dat").write_bytes(b"rain")
    return folder


def finish_all(served: Served, count: int) -> threading.Thread:
    """Carry the tasks of the next sweep to success, each with a row of its summary, in another thread."""

    def run() -> None:
        wait_for(lambda: len(served.face.store.list(TaskQuery(limit=1000))) == count)
        for record in reversed(served.face.store.list(TaskQuery(limit=1000))):
            row = pa.table({"peak": [float(record.seq)]})
            write_table(served.face.storage, "summary", row, simulator="swmm", project="default", task=record.id)
            served.finish(record.id)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_sweep_from_one_command_to_one_table(served: Served, template: Path, tmp_path: Path) -> None:
    work = finish_all(served, 4)
    out = tmp_path / "summary.csv"
    told = ("sweep", "swmm", str(template), "--grid", "n=1:2", "--grid", "s=a,b", *INPUT, "--name", "storms")
    result = served.cli(*told, "--wait", "--out", f"summary={out}", "--download", str(tmp_path / "got"))
    work.join()
    assert result.exit_code == 0, result.output
    sweep = result.stdout.strip()
    assert f"{sweep} ended: 4 succeeded" in result.stderr
    lines = out.read_text().splitlines()
    assert lines[0] == '"task","case","n","s","peak"'
    assert len(lines) == 5
    assert {path.name for path in (tmp_path / "got").iterdir()} == {"case-1", "case-2", "case-3", "case-4"}
    [listed] = json.loads(served.cli("sweeps", "list", "--json").stdout)["sweeps"]
    assert (listed["id"], listed["ended"]) == (sweep, 4)
    assert "storms" in served.cli("sweeps", "list").stdout
    assert "n, s" in served.cli("sweeps", "info", sweep).stdout
    assert len(json.loads(served.cli("tasks", "list", "--sweep", sweep, "--json").stdout)["tasks"]) == 4
    assert "n=2, s=b" in served.cli("tasks", "list", "--sweep", sweep).stdout
    printed = served.cli("sweeps", "table", sweep, "summary", "--rows", "2")
    assert len(printed.stdout.splitlines()) == 3
    assert "more rows" in printed.stderr
    assert len(json.loads(served.cli("sweeps", "table", sweep, "summary", "--json").stdout)["rows"]) == 4
    assert served.cli("sweeps", "table", sweep, "sumary").exit_code == 2
    assert served.cli("sweeps", "wait", sweep, "--json").exit_code == 0


def test_a_sweep_that_is_not_waited_for_says_how_to_come_back_and_is_cancelled(served: Served, template: Path) -> None:
    result = served.cli("sweep", "swmm", str(template), "--grid", "n=1,2", *INPUT)
    assert result.exit_code == 0, result.output
    sweep = result.stdout.strip()
    assert f"simyard sweeps wait {sweep}" in result.stderr
    assert served.cli("sweeps", "wait", sweep, "--timeout", "0.1").exit_code == 2
    assert "2 ended now" in served.cli("sweeps", "cancel", sweep).stderr
    assert served.cli("sweeps", "wait", sweep).exit_code == 1


def test_the_cases_of_a_sweep_take_what_a_single_task_takes(served: Served, template: Path) -> None:
    before = served.cli("sweep", "swmm", str(template), "--grid", "n=1", *INPUT).stdout.strip()
    [first] = served.face.store.list(TaskQuery(sweep=before))
    told = ("--retries", "2", "--retry-on", "signal", "--retry-on", "out-of-memory", "--retry-memory", "2GiB")
    told += ("--queue-limit", "1h", "--stall-limit=9")
    more = ("--checkpoint", "restart/**", "--checkpoint-every", "5m", "--resume", "swmm --restart", "--end-stalled")
    waits = ("--after-any", first.id, "--if-dependency-fails", "hold")
    result = served.cli("sweep", "swmm", str(template), "--grid", "n=1,2", *INPUT, *told, *more, *waits)
    assert result.exit_code == 0, result.output
    records = served.face.store.list(TaskQuery(sweep=result.stdout.strip()))
    assert len(records) == 2
    for task in (record.task for record in records):
        assert (task.retry.on, task.retry.memory) == (("signal", "out-of-memory"), 2 * GIB)
        assert (task.limits.queue, task.limits.stall, task.limits.end_stalled) == (3600, 9, True)
        assert task.checkpoint is not None
        assert (task.checkpoint.files, task.checkpoint.every) == (("restart/**",), 300)
        assert task.checkpoint.resume[0].argv == ("swmm", "--restart")
        assert ([one.task for one in task.after], task.if_dependency_fails.value) == ([first.id], "hold")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "error: grid: "),
        (("--grid", "n="), "error: grid.n: "),
        (("--grid", "n=0:1e9:1"), "error: grid.n: "),
        (("--grid", "n=1:1000", "--grid", "m=1:1000", "--grid", "k=1:1000"), "1,000,000,000 cases"),
        (("--grid", "two words=1"), "cannot be the name"),
        (("--grid", "m=1"), "town.inp.jinja, line 1: it uses 'n'"),
        (("--table", "absent.csv"), "error: table: "),
        (("--table", "table.txt"), "error: table: "),
        (("--grid", "n=1", "--out", "summary=x.xls"), "error: out: "),
        (("--grid", "n=1", "-p", "wrong=1"), "error: parameters.wrong: "),
    ],
)
def test_a_bad_sweep_ends_with_2_and_nothing_was_made(
    served: Served, template: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = served.cli("sweep", "swmm", str(template), *INPUT, *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not result.stdout
    assert served.face.store.events() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda _: [{"n": 1}, {"n": 2}],
        lambda _: pa.table({"n": [1, 2]}),
        lambda folder: _written(folder / "cases.csv", "n\n1\n2\n"),
    ],
    ids=["rows", "arrow", "csv"],
)
def test_a_sweep_from_python(served: Served, template: Path, tmp_path: Path, make: Callable[[Path], object]) -> None:
    with served.client as client:
        sweep = client.sweep("swmm", template, table=make(tmp_path), parameters={"input_file": "town.inp"})
        assert len(sweep) == 2
        with pytest.raises(StillGoing):
            sweep.wait(timeout=0.1)
        work = finish_all(served, 2)
        ended = {task.id: task.status for task in sweep.as_completed()}
        work.join()
        assert list(ended.values()) == [Status.SUCCEEDED] * 2
        told: list[int] = []
        assert sweep.wait(on_progress=lambda info: told.append(info.ended)).succeeded
        assert told == [2]
        assert [task.info.case.values for task in sweep.tasks if task.info.case] == [{"n": 1}, {"n": 2}]
        assert sweep.table("summary").column("n").to_pylist() == [1, 2]
        assert client.sweeps.get(sweep.id).info == sweep.refresh()
        assert [one.id for one in client.sweeps.list()] == [sweep.id]
        with pytest.raises(InvalidInput):
            client.sweep("swmm", template, grid={"n": "123"}, parameters={"input_file": "town.inp"})


def test_tasks_are_given_as_they_end_with_few_requests(
    served: Served, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    usual = Connection.ask

    def ask(self: Connection, model: Any, method: str, place: str, **more: Any) -> Any:
        asked.append(place)
        return usual(self, model, method, place, **more)

    with served.client as client:
        sweep = client.sweep("swmm", template, grid={"n": range(1, 301)}, parameters={"input_file": "town.inp"})
        monkeypatch.setattr(Connection, "ask", ask)
        given = sweep.as_completed()
        ids = [task.id for task in sweep.tasks]
        served.finish(ids[0])
        assert next(given).id == ids[0]
        asked.clear()

        def end_the_others() -> None:
            for task in ids[1:]:
                served.face.store.apply(task, Cancel(), served.face.clock.now)

        work = threading.Thread(target=end_the_others)
        work.start()
        assert sorted(task.id for task in given) == sorted(ids[1:])
        work.join()
    assert len(asked) < 20


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
