from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from serve.signed_urls import sign
from tests.unit.serve.face import Face, problem

KEY = "tasks/t000000000000/1/files/größe 100%?#&+.dat"
DATA = bytes(range(256)) * 8


@pytest.fixture
def url(face: Face) -> str:
    face.storage.put(KEY, DATA)
    return sign(face.context, "GET", f"/v1/objects/{KEY}")


def test_a_signed_url_is_the_permission_whatever_the_name(face: Face, url: str) -> None:
    answer = face.get(url, key=None)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"
    head = face.request("HEAD", url, key=None)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("5-", 5, 2048),
        ("-7", 2041, 2048),
        ("2000-999999", 2000, 2048),
        ("-99999", 0, 2048),
        ("10-19", 10, 20),
    ],
)
def test_a_range_gives_just_that(face: Face, url: str, asked: str, start: int, stop: int) -> None:
    answer = face.get(url, key=None, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, DATA[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/2048"


@pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=-0", "bytes=9999-10000"])
def test_a_range_after_the_end_is_refused_with_the_size(face: Face, url: str, asked: str) -> None:
    answer = face.get(url, key=None, headers={"Range": asked})
    problem(answer, 416)
    assert answer.headers["content-range"] == "bytes */2048"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "lines=1-2", "bytes=1-2,4-5", "bytes=-", "bytes=a-b", "bytes=" + "9" * 30 + "-"]
)
def test_a_range_that_is_none_gives_the_whole(face: Face, url: str, asked: str) -> None:
    assert face.get(url, key=None, headers={"Range": asked}).status_code == 200


def test_an_expired_url_is_refused(face: Face, url: str) -> None:
    face.clock.advance(600)
    problem(face.get(url, key=None), 403, "expires")


def changed(url: str, **values: str | None) -> str:
    parts = urlsplit(url)
    query = {name: value for name, value in (dict(parse_qsl(parts.query)) | values).items() if value is not None}
    return f"{parts.path}?{urlencode(query)}"


@pytest.mark.parametrize(
    "values",
    [
        {"signature": None},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "ü"},
        {"expires": "99999999999"},
        {"expires": None},
        {"expires": "x"},
        {"extra": "1"},
    ],
    ids=str,
)
def test_a_changed_url_is_refused(face: Face, url: str, values: dict[str, str | None]) -> None:
    problem(face.get(changed(url, **values), key=None), 403, "signature")


def test_a_signature_is_good_for_its_key_only(face: Face, url: str) -> None:
    face.storage.put("tasks/t000000000001/1/pack-0000.zip", b"another's")
    other = url.replace(quote(KEY), "tasks/t000000000001/1/pack-0000.zip")
    problem(face.get(other, key=None), 403, "signature")


@pytest.mark.parametrize("key", ["../simyard.db", "..%2f..%2fetc/passwd", "%2e%2e/x", "/etc/passwd", ""])
def test_a_key_cannot_be_made_up(face: Face, url: str, key: str) -> None:
    query = urlsplit(url).query
    answer = face.get(f"/v1/objects/{key}?{query}", key=None)
    # The client itself may fold the dots away, so that the address is another one.
    problem(answer, answer.status_code)
    assert answer.status_code in {403, 404}


@pytest.mark.parametrize("key", ["../simyard.db", "a/../../x", "a//b"])
def test_even_a_signed_key_cannot_leave_the_storage(face: Face, key: str) -> None:
    signed = sign(face.context, "GET", f"/v1/objects/{key}").replace("..", "%2e%2e")
    assert face.get(signed, key=None).status_code in {403, 404, 422}


def test_a_signature_is_good_for_its_method_only(face: Face) -> None:
    path = f"/v1/uploads/{'0' * 64}/parts/1"
    signed = sign(face.context, "GET", path, size=4)
    problem(face.put(signed, content=b"data", key=None), 403, "signature")


def test_the_size_of_a_part_cannot_be_changed(face: Face) -> None:
    signed = sign(face.context, "PUT", f"/v1/uploads/{'0' * 64}/parts/1", size=4)
    problem(face.put(changed(signed, size="5"), content=b"data!", key=None), 403, "signature")


def test_another_servers_signature_is_refused(face: Face) -> None:
    other = Face(secret=b"another secret of thirty-two byte")
    face.storage.put("a", b"x")
    problem(face.get(sign(other.context, "GET", "/v1/objects/a"), key=None), 403, "signature")
    other.close()


def test_an_object_that_is_gone_is_a_problem(face: Face) -> None:
    problem(face.get(sign(face.context, "GET", "/v1/objects/tasks/x"), key=None), 404)
