from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from simyard.files import ManifestEntry
from simyard.status import Status
from storage.paths import Paths
from tests.unit.serve.face import Face, problem

WEIRD = ['a "quoted" name.csv', "line\nbreak.txt", "größe 100%.dat", "semi;colon='x'.csv", "deep/er/ä b.csv"]
FILES = {name: f"content of {i}".encode() * 1000 for i, name in enumerate(WEIRD)} | {"empty.txt": b""}
LOGS = {"stdout.log": b"printed\n", "stderr.log": b""}
SAMPLES = b'{"at":1,"cpu_seconds":2,"memory":3,"disk":4}\n{"at"'


@pytest.fixture
def task(face: Face, tmp_path: Path) -> str:
    made = face.submit()
    face.finish(made, tmp_path, FILES, LOGS)
    return made


def test_removed_outputs_are_gone_for_ever_and_said_to_be(face: Face, task: str) -> None:
    answer = face.request("DELETE", f"/v1/tasks/{task}/outputs")
    assert answer.status_code == 200
    removed = answer.json()["outputs_removed_at"]
    assert removed is not None
    assert face.request("DELETE", f"/v1/tasks/{task}/outputs").json()["outputs_removed_at"] == removed
    assert not [info.key for info in face.storage.list("tasks")]
    for place in ("outputs", "outputs/content?path=empty.txt", "outputs:download", "logs"):
        assert "removed at" in problem(face.get(f"/v1/tasks/{task}/{place}"), 404)["detail"]
    assert face.get(f"/v1/tasks/{task}/files").json() == {"live": False, "files": []}
    said = problem(face.post("/v1/tasks", json=face.spec(inputs=[{"task": task, "path": "*"}])), 422, "inputs.0")
    assert task in said["detail"]


def test_only_the_owner_removes_outputs_and_only_of_what_has_ended(face: Face, task: str) -> None:
    problem(face.request("DELETE", f"/v1/tasks/{task}/outputs", key=face.add_key("bob")), 404)
    going = face.submit()
    assert "Cancel" in problem(face.request("DELETE", f"/v1/tasks/{going}/outputs"), 409)["fix"]
    later = face.submit(inputs=[{"task": task, "path": "*"}])
    problem(face.request("DELETE", f"/v1/tasks/{task}/outputs"), 409)
    face.post(f"/v1/tasks/{later}:cancel")
    assert face.request("DELETE", f"/v1/tasks/{task}/outputs").status_code == 200


def test_the_list_has_every_file_and_log_and_signed_urls_of_their_bytes(face: Face, task: str) -> None:
    body = face.get(f"/v1/tasks/{task}/outputs").json()
    entries = [ManifestEntry.model_validate(entry) for entry in body["entries"]]
    assert {entry.path for entry in entries} == {*FILES, ".simyard/stdout.log", ".simyard/stderr.log"}
    assert body["attempt"] == 1
    for entry in entries:
        if not entry.size:
            continue
        assert entry.object is not None
        span = f"bytes={entry.offset}-{entry.offset + entry.length - 1}"
        raw = face.get(body["objects"][entry.object]["url"], key=None, headers={"Range": span}).content
        data = zlib.decompress(raw, wbits=-15) if entry.codec == "deflate" else raw
        assert data == (FILES | {f".simyard/{name}": log for name, log in LOGS.items()})[entry.path]


@pytest.mark.parametrize(
    ("glob", "count"), [("*.csv", 2), ("**/*.csv", 3), ("deep/**", 1), ("*", 5), ("**", 8), ("nothing", 0)]
)
def test_a_glob_chooses(face: Face, task: str, glob: str, count: int) -> None:
    body = face.get(f"/v1/tasks/{task}/outputs", params={"glob": glob}).json()
    assert len(body["entries"]) == count
    assert bool(body["objects"]) == bool(count)


@pytest.mark.parametrize("name", [*FILES, ".simyard/stdout.log"])
def test_one_file_comes_whole_under_its_own_name(face: Face, task: str, name: str) -> None:
    answer = face.get(f"/v1/tasks/{task}/outputs/content", params={"path": name})
    data = FILES.get(name, LOGS["stdout.log"])
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["x-content-type-options"] == "nosniff"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment; ")
    assert "\n" not in disposition
    assert disposition.count('"') == 2


def test_a_part_of_one_file(face: Face, task: str) -> None:
    url = f"/v1/tasks/{task}/outputs/content"
    answer = face.get(url, params={"path": WEIRD[0]}, headers={"Range": "bytes=5-14"})
    assert (answer.status_code, answer.content) == (206, FILES[WEIRD[0]][5:15])


def test_a_link_gives_the_output_that_it_leads_to_and_never_leaves(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    face.run(task)
    links = tmp_path / f"{task}-1"
    links.mkdir()
    for name, target in {
        "a": "real.txt",
        "b": "a",
        "loop": "loop",
        "out": "../../etc/passwd",
        "abs": "/etc/passwd",
    }.items():
        (links / name).symlink_to(target)
    links.rename(tmp_path / "kept")
    face.store_files(task, tmp_path, {"real.txt": b"data"})
    from storage.manifest import commit_manifest, read_manifest
    from storage.outputs import store_outputs

    rows = store_outputs(face.storage, task, 1, tmp_path / "kept", None, logs={})
    files = read_manifest(face.storage, task, 1)
    face.storage.delete([Paths.manifest(task, 1)])
    commit_manifest(face.storage, task, 1, [*files, *rows])
    face.end(task)
    url = f"/v1/tasks/{task}/outputs/content"
    for name in ("a", "b"):
        assert face.get(url, params={"path": name}).content == b"data"
    for name in ("loop", "out", "abs"):
        problem(face.get(url, params={"path": name}), 404, "path")


def test_the_zip_has_every_file_and_survives_odd_names(face: Face, task: str) -> None:
    answer = face.get(f"/v1/tasks/{task}/outputs:download")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in FILES} == FILES


def test_the_zip_of_a_glob_has_just_those(face: Face, task: str) -> None:
    answer = face.get(f"/v1/tasks/{task}/outputs:download", params={"glob": "*.csv"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == sorted([WEIRD[0], WEIRD[3]])
    problem(face.get(f"/v1/tasks/{task}/outputs:download", params={"glob": "nothing"}), 404, "glob")


def test_there_are_no_outputs_before_the_end(face: Face) -> None:
    task = face.submit()
    for url in ("outputs", "outputs:download", "outputs/content?path=a"):
        problem(face.get(f"/v1/tasks/{task}/{url}"), 404)
    face.run(task)
    problem(face.get(f"/v1/tasks/{task}/outputs"), 404)
    problem(face.get(f"/v1/tasks/{task}/outputs?attempt=7"), 404, "attempt")


def test_a_failed_task_keeps_its_outputs(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    face.run(task)
    face.store_files(task, tmp_path, {"core": b"x"})
    face.end(task, Status.FAILED)
    assert face.get(f"/v1/tasks/{task}/outputs/content?path=core").content == b"x"


def test_damaged_bytes_never_look_like_a_whole_file(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    face.finish(task, tmp_path, {"big.bin": bytes(3_000_000)})
    [info] = [info for info in face.storage.list(Paths.attempt(task, 1)) if info.key.endswith(".zip")]
    data = bytearray(face.storage.get(info.key))
    data[len(data) // 2] ^= 0xFF
    face.storage.put(info.key, bytes(data))
    answer = face.get(f"/v1/tasks/{task}/outputs/content?path=big.bin")
    assert answer.status_code == 500 or len(answer.content) < 3_000_000


def test_unknown_outputs_are_a_problem(face: Face, task: str) -> None:
    problem(face.get(f"/v1/tasks/{task}/outputs/content", params={"path": "nothing.csv"}), 404, "path")
    problem(face.get(f"/v1/tasks/{task}/outputs/content", params={"path": "nothing.csv", "attempt": 2}), 404)


def test_tables_come_as_parquet_and_as_json(face: Face, task: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from storage.tables import write_table

    table = pa.table({"flow": [1.5, float("nan"), float("inf")], "at": [None, "größe\n", "x"]})
    write_table(face.storage, "summary", table, simulator="swmm", project="default", task=task)
    listed: dict[str, Any] = face.get(f"/v1/tasks/{task}/tables").json()
    assert [row["name"] for row in listed["tables"]] == ["summary"]
    parquet = face.get(f"/v1/tasks/{task}/tables/summary")
    assert pq.read_table(io.BytesIO(parquet.content)).column_names == ["flow", "at"]
    body = face.get(f"/v1/tasks/{task}/tables/summary?format=json").json()
    assert body["columns"] == [{"name": "flow", "type": "double"}, {"name": "at", "type": "string"}]
    assert body["rows"] == [{"flow": 1.5, "at": None}, {"flow": None, "at": "größe\n"}, {"flow": None, "at": "x"}]
    for name in ("nothing", "..%2F..%2Fx", "a%00b", "x" * 300):
        problem(face.get(f"/v1/tasks/{task}/tables/{name}"), 404)


def test_the_folder_of_a_running_task_is_shown_and_then_its_outputs(face: Face, tmp_path: Path) -> None:
    task = face.submit()
    assert face.get(f"/v1/tasks/{task}/files").json() == {"live": False, "files": []}
    face.run(task)
    face.live.files[task, 1] = {"a b/ü.csv": bytes(range(256)) * 5000}
    listed = face.get(f"/v1/tasks/{task}/files").json()
    assert (listed["live"], listed["files"][0]["path"]) == (True, "a b/ü.csv")
    url = f"/v1/tasks/{task}/files/content"
    whole = face.get(url, params={"path": "a b/ü.csv"}).content
    assert whole == bytes(range(256)) * 5000
    assert face.get(url, params={"path": "a b/ü.csv", "offset": 3, "limit": 4}).content == whole[3:7]
    assert face.get(url, params={"path": "a b/ü.csv", "limit": 0}).content == b""
    assert face.get(url, params={"path": "a b/ü.csv", "offset": 10**9}).content == b""
    problem(face.get(url, params={"path": "other"}), 404, "path")
    face.store_files(task, tmp_path, {"end.csv": b"12345"}, LOGS | {"samples.jsonl": SAMPLES})
    face.end(task)
    assert [file["path"] for file in face.get(f"/v1/tasks/{task}/files").json()["files"]] == ["end.csv"]
    assert face.get(url, params={"path": "end.csv", "offset": 1, "limit": 2}).content == b"23"
    assert face.get(f"/v1/tasks/{task}/samples").json()["samples"] == [
        {"at": 1.0, "cpu_seconds": 2.0, "memory": 3, "disk": 4}
    ]


def test_a_machine_that_does_not_answer_is_said_so(face: Face) -> None:
    task = face.submit()
    face.run(task)
    face.live.files.clear()
    for url in ("files", "files/content?path=a", "samples"):
        problem(face.get(f"/v1/tasks/{task}/{url}"), 503)


def test_a_storage_that_signs_serves_its_objects_itself(face: Face, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face.storage, "sign_get", lambda key, seconds: f"https://bucket.example/{key}?for={seconds}")
    objects = face.get(f"/v1/tasks/{task}/outputs").json()["objects"]
    assert objects["pack-0000.zip"]["url"] == f"https://bucket.example/tasks/{task}/1/pack-0000.zip?for=600"


def test_a_text_keeps_its_own_character_set(face: Face, task: str) -> None:
    answer = face.get(f"/v1/tasks/{task}/outputs/content", params={"path": "empty.txt"})
    assert answer.headers["content-type"] == "text/plain"
