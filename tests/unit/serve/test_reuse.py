"""A task that has the result of an earlier one, as its user sees it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from simyard.resources import MIB
from storage.inputs import put_input
from storage.tables import write_table
from tasks.reuse import take_results
from tests.unit.serve.face import Face, problem


def take(face: Face) -> None:
    take_results(face.store, face.storage, face.store.queue(face.clock.now, 1000), face.clock.now)


@pytest.fixture
def source(face: Face, tmp_path: Path) -> str:
    """A task that was computed, with an output, a log and a table."""
    task = face.submit()
    face.finish(task, tmp_path, {"town.out": b"out"}, {"stdout.log": b"said\n", "samples.jsonl": b""})
    write_table(face.storage, "summary", pa.table({"peak": [7.5]}), simulator="swmm", project="default", task=task)
    return task


def test_the_same_request_takes_the_result_and_shows_it_as_its_own(face: Face, source: str) -> None:
    task = face.submit(reuse=True, name="again", resources={"memory": 512 * MIB})
    take(face)
    shown = face.get(f"/v1/tasks/{task}").json()
    assert (shown["status"], shown["reused_from"], shown["result"]) == ("succeeded", source, 1)
    assert (shown["attempts"], shown["started_at"]) == ([], None)
    place = f"/v1/tasks/{task}"
    listed = face.get(f"{place}/outputs").json()
    assert {entry["path"] for entry in listed["entries"]} == {
        "town.out",
        ".simyard/stdout.log",
        ".simyard/samples.jsonl",
    }
    for stored in listed["objects"].values():
        assert face.get(stored["url"], key=None).status_code == 200
    assert face.get(f"{place}/outputs/content", params={"path": "town.out"}).content == b"out"
    assert face.get(f"{place}/files/content", params={"path": "town.out"}).content == b"out"
    assert [file["path"] for file in face.get(f"{place}/files").json()["files"]] == ["town.out"]
    assert face.get(f"{place}/samples").json() == {"samples": []}
    assert face.get(f"{place}/logs").content == b"said\n"
    assert face.get(f"{place}/logs", params={"follow": True}).content == b"said\n"
    packed = face.get(f"{place}/outputs:download").content
    assert "town.out" in zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert [table["name"] for table in face.get(f"{place}/tables").json()["tables"]] == ["summary"]
    assert face.get(f"{place}/tables/summary", params={"format": "json"}).json()["rows"] == [{"peak": 7.5}]
    assert face.get(f"{place}/tables/summary").status_code == 200
    assert source in face.get(f"{place}/explain").json()["summary"]


def test_nobody_takes_another_user_s_result(face: Face, source: str) -> None:
    key = face.add_key("eve")
    answer = face.request("POST", "/v1/tasks", key=key, json=face.spec(reuse=True))
    take(face)
    task = answer.json()["id"]
    assert face.request("GET", f"/v1/tasks/{task}", key=key).json()["status"] == "queued"
    problem(face.request("GET", f"/v1/tasks/{source}/outputs", key=key), 404)


@pytest.mark.parametrize("change", [{"reuse": False}, {"project": "other"}, {"resources": {"cpus": 2}}], ids=str)
def test_another_task_is_computed(face: Face, source: str, change: dict[str, object]) -> None:
    task = face.submit(**({"reuse": True} | change))
    take(face)
    assert face.get(f"/v1/tasks/{task}").json()["status"] == "queued"


def test_the_cases_of_a_sweep_take_results_and_its_table_has_them(face: Face, tmp_path: Path) -> None:
    template = b"[TITLE]\na town of {{ size }}\n"
    sha256 = put_input(face.storage, template)
    body = {
        "task": face.spec(inputs=[{"path": "town.inp.jinja", "sha256": sha256, "size": len(template)}], reuse=True),
        "grid": {"size": [1, 2]},
    }
    first = face.post("/v1/sweeps", json=body)
    assert first.status_code == 201, first.text
    take(face)
    for task in face.get("/v1/tasks", params={"sweep": first.json()["id"]}).json()["tasks"]:
        face.finish(task["id"], tmp_path, {"town.out": b"out"})
        size = float(task["case"]["values"]["size"])
        write_table(
            face.storage, "summary", pa.table({"peak": [size]}), simulator="swmm", project="default", task=task["id"]
        )
    body["grid"] = {"size": [2, 1, 3]}
    second = face.post("/v1/sweeps", json=body).json()["id"]
    take(face)
    tasks = {task["id"]: task for task in face.get("/v1/tasks", params={"sweep": second}).json()["tasks"]}
    assert sorted(task["status"] for task in tasks.values()) == ["queued", "succeeded", "succeeded"]
    rows = face.get(f"/v1/sweeps/{second}/tables/summary", params={"format": "json"}).json()["rows"]
    assert [(row["case"], row["size"], row["peak"]) for row in rows] == [(1, 2, 2.0), (2, 1, 1.0)]
    assert all(row["task"] in tasks for row in rows)
