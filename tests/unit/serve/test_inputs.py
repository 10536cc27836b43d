from __future__ import annotations

from typing import Any

import pytest

from storage.inputs import put_input
from storage.paths import Paths
from storage.uploads import PART_SIZE
from tests.unit.serve.face import Face, problem, sha256_of


def plan(face: Face, data: bytes) -> dict[str, Any]:
    body = {"files": [{"sha256": sha256_of(data), "size": len(data)}]}
    [upload] = face.post("/v1/inputs:negotiate", json=body).json()["uploads"]
    return dict(upload)


def send(face: Face, upload: dict[str, Any], data: bytes, numbers: set[int] | None = None) -> dict[str, str]:
    etags = {}
    for part in upload["parts"]:
        if numbers is None or part["number"] in numbers:
            start = (part["number"] - 1) * upload["part_size"]
            answer = face.put(part["url"], content=data[start : start + part["size"]], key=None)
            assert answer.status_code == 200, answer.text
            etags[str(part["number"])] = answer.headers["etag"]
    return etags


def test_a_small_file_is_sent_in_one_piece(face: Face) -> None:
    answer = face.post("/v1/inputs", content=b"mesh")
    assert (answer.status_code, answer.json()) == (201, {"sha256": sha256_of(b"mesh"), "size": 4})
    assert face.storage.get(Paths.input(sha256_of(b"mesh"))) == b"mesh"


def test_an_empty_file_is_a_file(face: Face) -> None:
    assert face.post("/v1/inputs", content=b"").json()["size"] == 0
    upload = plan(face, b"") if face.storage.head(Paths.input(sha256_of(b""))) is None else None
    assert upload is None


def test_a_file_over_16_mib_is_refused_in_one_piece(face: Face) -> None:
    body = problem(face.post("/v1/inputs", content=b"x" * (16 * 1024**2 + 1)), 413)
    assert "negotiate" in body["fix"]


def test_only_what_is_missing_is_asked_for(face: Face) -> None:
    there, absent = put_input(face.storage, b"there"), sha256_of(b"absent")
    files = [{"sha256": there, "size": 5}, {"sha256": absent, "size": 6}, {"sha256": absent, "size": 6}]
    uploads = face.post("/v1/inputs:negotiate", json={"files": files}).json()["uploads"]
    assert [upload["sha256"] for upload in uploads] == [absent]


@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1])
def test_a_file_is_sent_in_parts_without_a_key_and_becomes_an_input(face: Face, size: int) -> None:
    data = b"\xab" * size
    upload = plan(face, data)
    assert [part["size"] for part in upload["parts"]] == [s for s in (min(size, PART_SIZE), size - PART_SIZE) if s > 0]
    etags = send(face, upload, data)
    for _ in range(2):
        assert face.post(upload["complete"], json={"etags": etags}, key=None).status_code == 204
    assert face.storage.get(Paths.input(sha256_of(data))) == data
    assert list(face.storage.list(Paths.uploads())) == []


def test_an_upload_that_broke_off_is_resumed_with_the_parts_that_are_missing(face: Face) -> None:
    data = b"\xcd" * (PART_SIZE + 5)
    upload = plan(face, data)
    send(face, upload, data, {1})
    problem(face.post(upload["complete"], json={}, key=None), 409)
    again = plan(face, data)
    assert [part["number"] for part in again["parts"]] == [2]
    send(face, again, data)
    assert face.post(again["complete"], json={}, key=None).status_code == 204


def test_damaged_bytes_are_refused_and_dropped(face: Face) -> None:
    upload = plan(face, b"good bytes")
    send(face, upload, b"evil bytes")
    problem(face.post(upload["complete"], json={}, key=None), 422)
    assert face.storage.head(Paths.input(sha256_of(b"good bytes"))) is None
    assert [part["number"] for part in plan(face, b"good bytes")["parts"]] == [1]


@pytest.mark.parametrize("sent", [b"", b"short", b"much longer than said"])
def test_a_part_of_another_size_is_refused(face: Face, sent: bytes) -> None:
    [part] = plan(face, b"ten bytes!")["parts"]
    answer = face.put(part["url"], content=sent, key=None)
    problem(answer, 413 if len(sent) > 10 else 422)
    assert list(face.storage.list(Paths.uploads())) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "files"),
        ({"files": [{"sha256": "x", "size": 1}]}, "files.0.sha256"),
        ({"files": [{"sha256": "0" * 64, "size": -1}]}, "files.0.size"),
        ({"files": [{"sha256": "0" * 64, "size": 10**15}]}, "files.0.size"),
        ({"files": [{"sha256": "0" * 64}]}, "files.0.size"),
        ({"files": [{"sha256": "0" * 64, "size": 1}, {"sha256": "0" * 64, "size": 2}]}, "files.1.size"),
        ({"files": [{"sha256": "0" * 64, "size": 1}] * 100_001}, "files"),
    ],
    ids=["absent", "hash", "negative", "huge", "no size", "two sizes", "too many"],
)
def test_a_bad_negotiation_is_refused(face: Face, body: dict[str, Any], field: str) -> None:
    problem(face.post("/v1/inputs:negotiate", json=body), 422, field)


@pytest.mark.parametrize("etags", [{"0": "x"}, {"one": "x"}, {"1": 5}, ["x"], {"1": "x" * 201}])
def test_bad_etags_are_refused(face: Face, etags: Any) -> None:
    upload = plan(face, b"data")
    problem(face.post(upload["complete"], json={"etags": etags}, key=None), 422)
