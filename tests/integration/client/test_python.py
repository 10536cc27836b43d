from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from simyard import errors
from simyard.client import Client
from simyard.errors import InvalidInput
from simyard.event import Event
from simyard.handle import Task
from simyard.status import Status
from simyard.submission import describe
from storage.tables import write_table
from tests.integration.client.conftest import Served
from tests.unit.client.conftest import WEIRD

pa = pytest.importorskip("pyarrow")


def test_from_a_folder_to_its_outputs_and_tables(served: Served, case: Path, tmp_path: Path) -> None:
    (case / "big.bin").write_bytes(bytes(range(256)) * 70 * 4096)  # 70 MiB: several parts
    with served.client as client:
        task = client.run("swmm", case, parameters={"input_file": "town.inp"}, cpus=2, name="a town")
        assert task.status is Status.QUEUED
        spec_inputs = {file.path: file.size for file in served.face.store.inputs(task.id)}
        assert spec_inputs["big.bin"] == 70 * 2**20
        assert set(WEIRD) | {"town.inp", "big.bin"} == set(spec_inputs)

        table = pa.table({"flow": [1.0, 2.5]})
        told: list[Event] = []
        mover = threading.Thread(target=served.finish, args=(task.id,))
        mover.start()
        assert task.wait(timeout=20, on_event=told.append) is Status.SUCCEEDED
        mover.join()
        assert told[0].status is Status.QUEUED
        assert told[-1].status is Status.SUCCEEDED

        assert {entry.path for entry in task.outputs} == set(WEIRD)
        assert {file.path for file in task.files()} == set(WEIRD)
        done = task.download(tmp_path / "out")
        assert {name: (tmp_path / "out" / name).read_bytes() for name in WEIRD} == WEIRD
        assert set(done.files) == {*WEIRD, ".simyard/stdout.log", ".simyard/stderr.log"}
        assert task.download(tmp_path / "out").already_there == len(done.files)
        assert task.download(tmp_path / "some", "**/*.txt").files
        assert task.read("line\nbreak.txt") == WEIRD["line\nbreak.txt"]
        assert b"".join(task.logs()) == b"10 %\r20 %\n"
        assert b"".join(task.logs(stream="stderr")) == b"\xff"
        assert task.explain().status is Status.SUCCEEDED

        storage = served.face.storage
        assert task.tables == {}
        name = next(iter(client.simulators.get("swmm").tables))
        write_table(storage, name, table, simulator="swmm", project="default", task=task.id)
        assert list(task.tables) == [name]
        assert task.table(name).equals(table)
        with pytest.raises(errors.NotFound):
            task.table("../x")


def test_the_same_files_are_sent_once_and_the_same_key_gives_the_same_task(served: Served, case: Path) -> None:
    with served.client as client:
        first = client.run("swmm", case, parameters={"input_file": "town.inp"}, idempotency_key="k")
        again = client.run("swmm", case, parameters={"input_file": "town.inp"}, idempotency_key="k")
        other = client.run("swmm", case, parameters={"input_file": "town.inp"})
        assert first.id == again.id != other.id
        with pytest.raises(errors.Conflict):
            client.run("swmm", case, parameters={"input_file": "town.inp"}, idempotency_key="k", cpus=2)


def test_an_empty_file_alone_is_an_input(served: Served, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "town.inp").touch()
    with served.client as client:
        assert client.run("swmm", tmp_path / "in", parameters={"input_file": "town.inp"}).status is Status.QUEUED


def test_tasks_come_page_by_page_newest_first(served: Served, case: Path) -> None:
    with served.client as client:
        made = [client.run("swmm", case, parameters={"input_file": "town.inp"}, name=f"n{i}").id for i in range(5)]
        assert [task.id for task in client.tasks.list()] == made[::-1]
        assert [task.id for task in client.tasks.list(limit=2)] == made[:2:-1]
        assert [task.id for task in client.tasks.list(name="n3")] == [made[3]]
        client.tasks.get(made[0]).cancel()
        assert [task.id for task in client.tasks.list(status=["cancelled", "failed"])] == [made[0]]
        page = client.tasks.page(limit=3)
        assert len(page.tasks) == 3
        assert [task.id for task in client.tasks.page(cursor=page.cursor).tasks] == made[1::-1]


def test_catalogue_groups_and_health(served: Served) -> None:
    with served.client as client:
        assert client.health().status == "ok"
        assert "swmm" in [info.name for info in client.simulators.list()]
        assert client.groups.list()[0].machines[0].name == "m1"
        with pytest.raises(errors.SimyardError, match="swmm"):
            client.simulators.get("swmn")


def test_an_unknown_simulator_is_refused_before_anything_is_sent(served: Served, case: Path) -> None:
    with served.client as client, pytest.raises(errors.SimyardError, match="swmm"):
        client.run("swmn", case)
    assert not list(served.face.storage.list(""))


@pytest.mark.parametrize(
    "wrong",
    [
        {"parameters": {"input_file": "absent.inp"}},
        {"parameters": {"input_file": "town.inp", "speed": 3}},
        {"parameters": {"input_file": "town.inp"}, "version": "0.1"},
        {"parameters": {"input_file": "town.inp"}, "cpus": 4000},
        {"parameters": {"input_file": "town.inp"}, "group": "moon"},
    ],
)
def test_what_is_refused_is_refused_before_anything_is_sent(served: Served, case: Path, wrong: Any) -> None:
    with served.client as client, pytest.raises(errors.InvalidInput):
        client.run("swmm", case, **wrong)
    assert not list(served.face.storage.list(""))


def test_a_wrong_key_is_refused(served: Served, case: Path) -> None:
    with Client(served.url, "sy_wrong") as client, pytest.raises(errors.Unauthorized):
        client.run("swmm", case)


@pytest.mark.parametrize("task", ["t0123456789ab", "nonsense", "../x", ""])
def test_a_task_that_does_not_exist_is_said(served: Served, task: str) -> None:
    with served.client as client, pytest.raises(errors.NotFound):
        client.tasks.get(task)


def test_outputs_of_a_task_that_goes_on_are_not_there_yet(served: Served, case: Path, tmp_path: Path) -> None:
    with served.client as client:
        task = client.run("swmm", case, parameters={"input_file": "town.inp"})
        with pytest.raises(errors.NotFound):
            task.download(tmp_path / "out")
        served.face.run(task.id)
        served.face.live.files[task.id, 1]["now.txt"] = b"live"
        assert [file.path for file in task.files()] == ["now.txt"]
        assert task.read("now.txt") == b"live"


def test_many_tasks_over_one_folder_come_in_order_and_a_bad_one_says_why(served: Served, case: Path) -> None:
    with served.client as client:
        inputs = client.upload(case)
        assert client.upload(case) == inputs
        case_of = {"parameters": {"input_file": "town.inp"}}
        specs = [describe("swmm", inputs, name=f"case {i} ☃", **case_of) for i in range(50)]
        specs[7] = describe("swmm", inputs, cpus=99, **case_of)
        found = client.submit_many(specs, idempotency_key="sweep")
        again = client.submit_many(specs, idempotency_key="sweep")
        assert isinstance(found[7], InvalidInput)
        assert found[7].field == "resources.cpus"
        tasks = [one for one in found if isinstance(one, Task)]
        assert [task.info.name for task in tasks] == [spec.name for i, spec in enumerate(specs) if i != 7]
        assert [task.id for task in tasks] == [one.id for one in again if isinstance(one, Task)]
        tasks[0].cancel()
    assert served.face.store.counts()["queued"] == 48
