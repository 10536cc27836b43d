from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simyard.status import Status
from simyard.sweep import Sweep
from storage.inputs import put_input
from storage.tables import write_table
from tasks.lifecycle import End
from tests.unit.serve.face import Face, problem
from tests.unit.serve.test_events import parse
from tests.unit.tasks.samples import NOW, dispatch, later, succeeded


def file(face: Face, path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "sha256": put_input(face.storage, data), "size": len(data)}


def sweep(face: Face, source: bytes = b"n {{ n }}\n", **changes: Any) -> dict[str, Any]:
    task = {
        "simulator": "swmm",
        "parameters": {"input_file": "town.inp"},
        "inputs": [file(face, "town.inp.jinja", source), file(face, "rain.dat", b"rain")],
    }
    return {"task": task | changes.pop("task", {}), "grid": {"n": [1, 2, 3]}} | changes


def submit(face: Face, key: str | None = None, **changes: Any) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = face.post("/v1/sweeps", json=sweep(face, **changes), headers=headers)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def tasks_of(face: Face, sweep: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = face.get(f"/v1/tasks?sweep={sweep}").json()["tasks"]
    return found[::-1]


def stored(face: Face) -> set[str]:
    return {found.key for found in face.storage.list("")}


def test_each_case_is_a_task_with_its_own_file_and_the_common_ones(face: Face) -> None:
    told = submit(face, name="storms", grid={"n": [1, 2], "s": ["a", "b"]})
    assert (told["name"], told["cases"], told["columns"], told["ended"]) == ("storms", 4, ["n", "s"], 0)
    assert told["counts"]["queued"] == 4
    tasks = tasks_of(face, told["id"])
    assert [task["case"]["values"] for task in tasks] == [
        {"n": 1, "s": "a"},
        {"n": 1, "s": "b"},
        {"n": 2, "s": "a"},
        {"n": 2, "s": "b"},
    ]
    assert [task["case"]["number"] for task in tasks] == [1, 2, 3, 4]
    for task in tasks:
        files = {one.path: one.sha256 for one in face.store.inputs(task["id"])}
        assert files["town.inp"] == hashlib.sha256(f"n {task['case']['values']['n']}\n".encode()).hexdigest()
        assert files["rain.dat"] == hashlib.sha256(b"rain").hexdigest()
    # The template, the common file, and one rendered file for each n.
    assert len(stored(face)) == 4
    assert face.waker.count == 1
    assert face.get(f"/v1/sweeps/{told['id']}").json()["counts"] == told["counts"]
    assert [one["id"] for one in face.get("/v1/sweeps").json()["sweeps"]] == [told["id"]]


def test_the_same_request_again_makes_no_second_sweep(face: Face) -> None:
    first = submit(face, "k")
    again = face.post("/v1/sweeps", json=sweep(face), headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    other = face.post("/v1/sweeps", json=sweep(face, name="other"), headers={"Idempotency-Key": "k"})
    problem(other, 409, "idempotency_key")
    assert face.store.counts()[Status.QUEUED] == 3


def test_texts_of_the_task_use_the_values_of_their_case(face: Face) -> None:
    task = {
        "metadata": {"raw": "{{ n }}", "said": "n is {{ n }}", "plain": "x"},
        "name": "case {{ case }}",
        "commands": [{"argv": ["solve", "--n={{ n * 2 }}", "{{ n }}"]}],
    }
    tasks = tasks_of(face, submit(face, task=task, grid={"n": [1.5, 2]})["id"])
    assert [one["name"] for one in tasks] == ["case 1", "case 2"]
    assert [one["metadata"] for one in tasks] == [
        {"raw": 1.5, "said": "n is 1.5", "plain": "x"},
        {"raw": 2, "said": "n is 2", "plain": "x"},
    ]
    assert [one["commands"][0]["argv"] for one in tasks] == [["solve", "--n=3.0", "1.5"], ["solve", "--n=4", "2"]]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_is_a_file_of_the_storage(face: Face, form: str) -> None:
    if form == "csv":
        data = b"n,s\n1,a\n2,b\n"
    else:
        out = io.BytesIO()
        pq.write_table(pa.table({"n": [1, 2], "s": ["a", "b"]}), out)
        data = out.getvalue()
    table = {name: value for name, value in file(face, "x", data).items() if name != "path"} | {"form": form}
    told = submit(face, table=table, grid={"on": [True, False]})
    assert [one["case"]["values"] for one in tasks_of(face, told["id"])] == [
        {"n": 1, "s": "a", "on": True},
        {"n": 1, "s": "a", "on": False},
        {"n": 2, "s": "b", "on": True},
        {"n": 2, "s": "b", "on": False},
    ]


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"grid": {}}, "grid", "no parameters"),
        ({"grid": {"n": []}}, "grid.n", "no values"),
        ({"grid": {name: list(range(1000)) for name in "nab"}}, "grid", "1,000,000,000 cases"),
        ({"grid": {"two words": [1]}}, "grid.two words", "cannot be the name"),
        ({"grid": {"m": [1]}}, "task.inputs.0", "town.inp.jinja, line 1: it uses 'n'"),
        ({"grid": {}, "rows": [{"n": 1}, {"m": 1}]}, "rows.1", "no 'm'"),
        ({"rows": [{"n": 1}]}, "grid.n", "table has this parameter too"),
        ({"task": {"simulator": "swm"}}, "task.simulator", "no simulator"),
        ({"task": {"parameters": {"input_file": "town.inp.jinja"}}}, "task.parameters.input_file", "no input file"),
        ({"task": {"metadata": {"x": "{{ m }}"}}}, "task.metadata.x", "'m'"),
        ({"task": {"resources": {"cpus": 99}}}, "task.resources.cpus", "99"),
        ({"task": {"priority": 1000}}, "task.priority", "100"),
        ({"task": {"name": "{{ 'x' * (300 if n > 2 else 1) }}"}}, "task.name", "case 3"),
        ({"unknown": 1}, "unknown", "no such field"),
    ],
)
def test_a_bad_sweep_is_refused_and_leaves_nothing(face: Face, changes: dict[str, Any], field: str, said: str) -> None:
    body = sweep(face, **changes)
    before = stored(face)
    told = problem(face.post("/v1/sweeps", json=body), 422, field)
    assert said in told["detail"]
    assert stored(face) == before
    assert face.store.events() == []
    assert face.get("/v1/sweeps").json()["sweeps"] == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"a\n{{ 1 / (n - 3) }}", "town.inp.jinja, line 2, case 3: ZeroDivisionError"),
        (b"{{ n }}{% include '../x' %}", "reads '../x'"),
        (b"{{ n }}{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "larger than 16 MiB"),
    ],
)
def test_a_bad_template_is_refused_and_leaves_nothing(face: Face, source: bytes, said: str) -> None:
    body = sweep(face, source)
    before = stored(face)
    told = problem(face.post("/v1/sweeps", json=body), 422, "task.inputs.0")
    assert said in told["detail"]
    assert stored(face) == before
    assert face.store.events() == []


def test_what_can_be_known_is_refused_before_the_files_are_there(face: Face) -> None:
    absent = {"path": "town.inp.jinja", "sha256": "0" * 64, "size": 3}
    told = face.post("/v1/sweeps", json=sweep(face, task={"inputs": [absent]})).json()
    assert told["type"].endswith("inputs-missing")
    problem(face.post("/v1/sweeps", json=sweep(face, task={"inputs": [absent]}, grid={"n": []})), 422, "grid.n")
    table = {"sha256": "1" * 64, "size": 3, "form": "csv"}
    told = problem(face.post("/v1/sweeps", json=sweep(face, table=table, grid={})), 422, "table")
    assert told["type"].endswith("inputs-missing")


def test_files_that_would_become_one_or_use_nothing_are_refused(face: Face) -> None:
    same = [file(face, "town.inp", b"x"), file(face, "town.inp.jinja", b"{{ n }}")]
    told = problem(face.post("/v1/sweeps", json=sweep(face, task={"inputs": same})), 422, "task.inputs.1.path")
    assert "would both become" in told["detail"]
    plain = [file(face, "town.inp", b"x")]
    told = problem(face.post("/v1/sweeps", json=sweep(face, task={"inputs": plain})), 422, "task.inputs")
    assert "all cases would be the same" in told["detail"]


def test_a_sweep_says_what_it_cost_so_far(face: Face) -> None:
    told = submit(face)
    assert told["cost_usd"] is None
    [first, *_] = tasks_of(face, told["id"])
    face.store.apply(first["id"], replace(dispatch(), usd_per_hour=36.0), NOW)
    face.store.apply(first["id"], End(1, succeeded()), later(100))
    place = f"/v1/sweeps/{told['id']}"
    assert face.get(place).json()["cost_usd"] == face.get("/v1/sweeps").json()["sweeps"][0]["cost_usd"] == 1.0


def test_a_sweep_is_seen_by_its_user_only(face: Face) -> None:
    told = submit(face)
    other = face.add_key("bob")
    for path in (f"/v1/sweeps/{told['id']}", "/v1/sweeps/s000000000000", "/v1/sweeps/nonsense"):
        problem(face.get(path, key=other), 404, "sweep")
    assert face.get("/v1/sweeps", key=other).json()["sweeps"] == []
    assert face.get(f"/v1/tasks?sweep={told['id']}", key=other).json()["tasks"] == []


def test_sweeps_are_listed_page_by_page(face: Face) -> None:
    made = [submit(face)["id"] for _ in range(3)]
    first = face.get("/v1/sweeps?limit=2").json()
    rest = face.get(f"/v1/sweeps?limit=2&cursor={first['cursor']}").json()
    assert [one["id"] for one in (*first["sweeps"], *rest["sweeps"])] == made[::-1]
    assert rest["cursor"] is None


def test_cancelling_a_sweep_ends_what_has_not_ended(face: Face, tmp_path: Path) -> None:
    told = submit(face)
    first, second, _ = (task["id"] for task in tasks_of(face, told["id"]))
    face.finish(first, tmp_path, {})
    face.run(second)
    answer = face.post(f"/v1/sweeps/{told['id']}:cancel")
    assert answer.status_code == 202
    counts = answer.json()["counts"]
    assert (counts["succeeded"], counts["running"], counts["cancelled"]) == (1, 1, 1)
    assert face.get(f"/v1/tasks/{second}").json()["cancel_requested"]


def test_one_stream_tells_of_all_tasks_and_ends_with_the_last(face: Face, tmp_path: Path) -> None:
    told, other = submit(face), face.submit()
    tasks = [task["id"] for task in tasks_of(face, told["id"])]
    for task in (*tasks, other):
        face.finish(task, tmp_path, {})
    text = face.get(f"/v1/sweeps/{told['id']}/events?after={told['latest']}").text
    blocks = [block for block in text.split("\n\n") if "event: progress" in block]
    last = Sweep.model_validate_json(blocks[-1].split("data: ", 1)[1])
    assert last.is_over
    assert last.succeeded
    events = parse("\n\n".join(block for block in text.split("\n\n") if "event: progress" not in block))
    assert {event.task for event in events} == set(tasks)
    assert [event.status for event in events].count(Status.SUCCEEDED) == 3
    resumed = face.get(f"/v1/sweeps/{told['id']}/events", headers={"Last-Event-ID": str(events[-1].seq)}).text
    assert resumed.count("event: ") == resumed.count("event: progress") > 0
    listed = face.get(f"/v1/sweeps/{told['id']}/events?limit=3", headers={"Accept": "application/json"}).json()
    assert [event["kind"] for event in listed["events"]] == ["submitted"] * 3


def finish_with(face: Face, folder: Path, task: str, table: pa.Table | None) -> None:
    if table is not None:
        write_table(face.storage, "summary", table, simulator="swmm", project="default", task=task)
    face.finish(task, folder, {})


def test_a_table_of_a_sweep_has_the_rows_of_all_beside_their_parameters(face: Face, tmp_path: Path) -> None:
    told = submit(face, grid={"n": [1, 2.5], "peak": ["a", "b"]})
    one, two, three, four = (task["id"] for task in tasks_of(face, told["id"]))
    url = f"/v1/sweeps/{told['id']}/tables/summary"
    problem(face.get(url), 404, "name")
    finish_with(face, tmp_path, one, pa.table({"peak": [1.0, 2.0], "odd": ["x", None]}))
    finish_with(face, tmp_path, two, pa.table({"peak": pa.array([3], pa.int64())}))
    finish_with(face, tmp_path, three, None)
    face.run(four)
    answer = face.get(url)
    assert (answer.headers["Simyard-Cases"], answer.headers["Simyard-Cases-With-Rows"]) == ("4", "2")
    table = pq.read_table(io.BytesIO(answer.content), use_threads=False, pre_buffer=False)
    assert table.column_names == ["task", "case", "n", "parameter_peak", "peak", "odd"]
    assert table.to_pylist() == [
        {"task": one, "case": 1, "n": 1, "parameter_peak": "a", "peak": 1.0, "odd": "x"},
        {"task": one, "case": 1, "n": 1, "parameter_peak": "a", "peak": 2.0, "odd": None},
        {"task": two, "case": 2, "n": 1, "parameter_peak": "b", "peak": 3.0, "odd": None},
    ]
    assert face.get(f"{url}?format=json").json()["rows"] == table.to_pylist()
    lines = face.get(f"{url}?format=csv").text.splitlines()
    assert lines[0] == '"task","case","n","parameter_peak","peak","odd"'
    assert len(lines) == 4
    told = problem(face.get(url.replace("summary", "sumary")), 404, "name")
    assert "summary" in told["fix"]
