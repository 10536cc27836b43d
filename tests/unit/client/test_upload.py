from __future__ import annotations

import hashlib
import os
from pathlib import Path

import httpx
import pytest

from simyard import errors
from simyard.folder import HashedFile, hash_files, scan
from simyard.progress import Transferred
from simyard.upload import Upload
from tests.unit.client.conftest import WEIRD
from tests.unit.client.wire import STORAGE, Clock, FakeInputs, connection, problem


def _hashed(folder: Path, **files: bytes) -> tuple[HashedFile, ...]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return hash_files(scan(folder))


def _puts(server: FakeInputs) -> list[httpx.Request]:
    return [request for request in server.requests if request.method == "PUT"]


def test_every_file_arrives_whole_and_each_content_once(weird_folder: Path) -> None:
    (weird_folder / "copy").write_bytes(WEIRD["größe ☃.dat"])
    server, told = FakeInputs(part_size=64), list[Transferred]()
    Upload(connection(server), hash_files(scan(weird_folder)), progress=told.append).run()
    assert {hashlib.sha256(data).hexdigest(): data for data in WEIRD.values()} == server.stored
    assert len(_puts(server)) == sum(max(1, -(-len(data) // 64)) for data in set(WEIRD.values()))
    assert (told[-1].files, told[-1].bytes) == (told[-1].of_files, told[-1].of_bytes)


def test_what_the_storage_has_is_not_sent(tmp_path: Path) -> None:
    server = FakeInputs()
    files = _hashed(tmp_path, a=b"here", b=b"missing")
    server.stored[hashlib.sha256(b"here").hexdigest()] = b"here"
    told = list[Transferred]()
    Upload(connection(server), files, progress=told.append).run()
    assert [request.content for request in _puts(server)] == [b"missing"]
    assert told[-1].bytes == 11


def test_an_interrupted_upload_goes_on_with_the_parts_that_are_missing(tmp_path: Path) -> None:
    server = FakeInputs(part_size=4)
    files = _hashed(tmp_path, big=b"0123456789ab")
    sha256 = files[0].sha256
    server.parts[sha256] = {1: b"0123", 3: b"89ab"}
    Upload(connection(server), files).run()
    assert [request.content for request in _puts(server)] == [b"4567"]
    assert server.stored[sha256] == b"0123456789ab"


def test_parts_go_to_the_storage_without_the_key_and_with_their_own_headers(tmp_path: Path) -> None:
    server = FakeInputs()
    Upload(connection(server), _hashed(tmp_path, a=b"x" * 20)).run()
    for request in _puts(server):
        assert str(request.url).startswith(STORAGE)
        assert "Authorization" not in request.headers
        assert request.headers["Content-Length"] == str(len(request.content))
        assert "Transfer-Encoding" not in request.headers
        assert request.headers["X-Part"] == request.url.path.rsplit("/", 1)[1]


@pytest.mark.parametrize("fault", [httpx.Response(503), httpx.Response(500), httpx.WriteError("broken pipe")])
def test_a_part_that_fails_is_sent_again_whole(tmp_path: Path, fault: httpx.Response | Exception) -> None:
    server = FakeInputs(part_size=1000)

    def fail(request: httpx.Request) -> httpx.Response | None:
        if request.method != "PUT":
            return None
        if isinstance(fault, Exception):
            server.faults.clear()
            raise fault
        return fault

    server.faults.append(fail)
    told = list[Transferred]()
    Upload(connection(server), _hashed(tmp_path, a=b"x" * 500), progress=told.append).run()
    assert [request.content for request in _puts(server)] == [b"x" * 500] * 2
    assert list(server.stored.values()) == [b"x" * 500]
    assert told[-1].bytes == 500


def test_expired_addresses_are_asked_for_again(tmp_path: Path) -> None:
    server = FakeInputs(part_size=4)

    def expire(request: httpx.Request) -> httpx.Response | None:
        if request.method == "PUT" and request.url.path.endswith("/2"):
            server.generation += 1
            return server._answer(request)
        return None

    server.faults.append(expire)
    Upload(connection(server), _hashed(tmp_path, a=b"0123456789")).run()
    assert list(server.stored.values()) == [b"0123456789"]
    assert sum(request.url.path == "/v1/inputs:negotiate" for request in server.requests) == 2


def test_bytes_that_were_harmed_on_the_way_are_sent_again(tmp_path: Path) -> None:
    server = FakeInputs()

    def harm(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith(":complete"):
            server.parts.clear()
            return problem(422, "invalid-input", "The bytes do not have the hash.")
        return None

    server.faults.append(harm)
    Upload(connection(server), _hashed(tmp_path, a=b"good")).run()
    assert list(server.stored.values()) == [b"good"]


def test_a_storage_that_never_takes_a_file_is_given_up(tmp_path: Path) -> None:
    server = FakeInputs()

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/inputs:negotiate":
            return server(request)
        return httpx.Response(403)

    with pytest.raises(errors.Unavailable, match="did not take 'a'"):
        Upload(connection(refuse), _hashed(tmp_path, a=b"x")).run()


@pytest.mark.parametrize("part_size", [1000, 4])
def test_a_file_that_changed_after_it_was_hashed_is_never_stored(tmp_path: Path, part_size: int) -> None:
    server = FakeInputs(part_size=part_size)
    files = _hashed(tmp_path, a=b"0123456789")
    (tmp_path / "a").write_bytes(b"9876543210x")
    with pytest.raises(errors.UnreadableInput, match="'a' changed"):
        Upload(connection(server), files).run()
    assert not server.stored


def test_a_change_that_keeps_size_and_time_is_caught_by_the_hash(tmp_path: Path) -> None:
    server = FakeInputs(part_size=1000)
    files = _hashed(tmp_path, a=b"0123456789")
    with (tmp_path / "a").open("r+b") as file:
        file.write(b"X")
    os.utime(tmp_path / "a", ns=(files[0].file.mtime_ns, files[0].file.mtime_ns))
    with pytest.raises(errors.UnreadableInput, match="'a' changed"):
        Upload(connection(server), files).run()
    assert not server.stored


def test_the_first_refusal_ends_the_rest(tmp_path: Path) -> None:
    clock = Clock()
    files = _hashed(tmp_path, **{f"f{i}": str(i).encode() for i in range(200)})
    server = FakeInputs()

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            server.requests.append(request)
            return problem(413, "too-large", "The part is too large.")
        return server(request)

    with pytest.raises(errors.TooLarge):
        Upload(connection(handler, clock), files).run()
    assert len(_puts(server)) < 100
