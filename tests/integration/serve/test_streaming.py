from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from simyard.event import Event, LogStream
from simyard.status import Status
from tasks.live import HolderGone, LogPiece, MemoryLive
from tasks.stimulus import Progress
from tests.integration.serve.server import DEADLINE, serving, wait_for
from tests.unit.serve.face import Face
from tests.unit.serve.test_events import parse
from tests.unit.serve.test_sweeps import submit as submit_sweep
from tests.unit.serve.test_sweeps import tasks_of


class WaitingLive(MemoryLive):
    """Waits for the log as a real holder does, and counts who waits."""

    waiting = 0

    async def read_log(
        self, holder: str, task: str, attempt: int, stream: LogStream, offset: int, limit: int, wait: float
    ) -> LogPiece:
        self.waiting += 1
        try:
            for _ in range(int(wait / 0.01) + 1):
                piece = await super().read_log(holder, task, attempt, stream, offset, limit, wait)
                if piece.data or piece.ended or not wait:
                    return piece
                await asyncio.sleep(0.01)
            return piece
        finally:
            self.waiting -= 1


@pytest.fixture
def face() -> Iterator[Face]:
    made = Face(live=WaitingLive())
    yield made
    made.close()


@pytest.fixture
def http(face: Face) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {face.key}"}
    with (
        serving(face.app) as url,
        httpx.Client(base_url=url, headers=headers, timeout=DEADLINE, trust_env=False) as client,
    ):
        yield client


class Reading(threading.Thread):
    """Reads a stream in the background and keeps what came."""

    def __init__(self, http: httpx.Client, url: str, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.http, self.url, self.headers = http, url, headers or {}
        self.data = b""
        self.attempt: str | None = None
        self.start()

    def run(self) -> None:
        with self.http.stream("GET", self.url, headers=self.headers) as answer:
            self.attempt = answer.headers.get("simyard-attempt")
            for piece in answer.iter_raw():
                self.data += piece

    def has(self, size: int) -> bool:
        """Say whether so many bytes have come."""
        return len(self.data) == size

    def whole(self) -> bytes:
        """Return everything once the stream has ended."""
        self.join(DEADLINE)
        assert not self.is_alive()
        return self.data


def test_events_arrive_as_they_happen_and_the_stream_ends_with_the_task(
    face: Face, http: httpx.Client, tmp_path: Path
) -> None:
    task = face.submit()
    reading = Reading(http, f"/v1/tasks/{task}/events")
    wait_for(lambda: b'"queued"' in reading.data)
    face.run(task)
    wait_for(lambda: b'"running"' in reading.data)
    wait_for(lambda: b"\n: " in reading.data)
    face.store_files(task, tmp_path, {})
    face.end(task)
    events = parse(reading.whole().decode())
    assert [event.status for event in events] == ["queued", "preparing", "running", "finalizing", "succeeded"]


def test_a_stream_of_events_that_broke_resumes_without_loss_or_doubling(
    face: Face, http: httpx.Client, tmp_path: Path
) -> None:
    task = face.submit()
    with http.stream("GET", f"/v1/tasks/{task}/events") as answer:
        text = ""
        for piece in answer.iter_text():
            text += piece
            if "queued" in text:
                break
    [first] = parse(text)
    face.finish(task, tmp_path, {})
    rest = Reading(http, f"/v1/tasks/{task}/events", {"Last-Event-ID": str(first.seq)}).whole()
    events = parse(rest.decode())
    assert [event.status for event in events] == ["preparing", "running", "finalizing", "succeeded"]


def test_many_streams_share_one_poller_which_ends_with_the_last_of_them(face: Face, http: httpx.Client) -> None:
    tasks = [face.submit() for _ in range(5)]
    feed = face.app.state.feed
    readings = [Reading(http, f"/v1/tasks/{task}/events") for task in tasks for _ in range(2)]
    wait_for(lambda: len(feed._watchers) == 10)
    for task in tasks:
        face.post(f"/v1/tasks/{task}:cancel")
    for reading in readings:
        assert b"cancelled" in reading.whole()
    wait_for(lambda: not feed._watchers and feed._poller.done())


def test_streams_beyond_the_most_are_refused_and_all_else_is_answered(
    face: Face, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.news.MOST", 2)
    told = submit_sweep(face)
    places = [f"/v1/sweeps/{told['id']}/events", f"/v1/tasks/{tasks_of(face, told['id'])[0]['id']}/events"]
    readings = [Reading(http, place) for place in places]
    wait_for(lambda: all(reading.data for reading in readings))
    for place in places:
        answer = http.get(place)
        assert answer.status_code == 503
        assert "event streams are open" in answer.text
        assert http.get(place, headers={"Accept": "application/json"}).status_code == 200
    face.post(f"/v1/sweeps/{told['id']}:cancel")
    for reading in readings:
        assert b"cancelled" in reading.whole()


def test_the_news_of_a_sweep_are_read_once_for_all_of_its_streams(
    face: Face, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = submit_sweep(face)
    [first, *others] = tasks_of(face, told["id"])
    places: list[object] = []
    read = face.store.events

    def count(**asked: Any) -> list[Event]:
        places.append(asked.get("sweep") and asked["after"])
        return read(**asked)

    monkeypatch.setattr(face.store, "events", count)
    readings = [Reading(http, f"/v1/sweeps/{told['id']}/events") for _ in range(40)]
    wait_for(lambda: all(b"progress" in reading.data for reading in readings))
    face.post(f"/v1/tasks/{first['id']}:cancel")
    wait_for(lambda: all(b'"cancelled"' in reading.data for reading in readings))
    # Once for the news, and then now and then with the progress of the sweep; not once for each stream.
    assert len([place for place in places if place == told["latest"]]) < len(readings)
    for task in others:
        face.post(f"/v1/tasks/{task['id']}:cancel")
    for reading in readings:
        told_of = parse("\n\n".join(b for b in reading.whole().decode().split("\n\n") if "event: progress" not in b))
        assert [event.status for event in told_of] == [Status.CANCELLED] * 3


def test_a_reader_who_leaves_is_forgotten(face: Face, http: httpx.Client) -> None:
    task = face.submit()
    feed = face.app.state.feed
    with http.stream("GET", f"/v1/tasks/{task}/events"):
        wait_for(lambda: feed._watchers)
    wait_for(lambda: not feed._watchers)
    face.run(task)
    live = face.live
    assert isinstance(live, WaitingLive)
    with http.stream("GET", f"/v1/tasks/{task}/logs?follow=true"):
        wait_for(lambda: live.waiting)
    wait_for(lambda: not live.waiting)


def test_a_log_is_followed_from_the_queue_over_the_end_into_the_storage(
    face: Face, http: httpx.Client, tmp_path: Path
) -> None:
    task = face.submit()
    reading = Reading(http, f"/v1/tasks/{task}/logs?follow=true")
    wait_for(lambda: face.app.state.feed._watchers)
    face.run(task)
    text = b""
    for i in range(20):
        text += f"step {i}\n".encode() * 2000
        face.live.logs[task, 1, LogStream.STDOUT] = text
        wait_for(partial(reading.has, len(text)))
    # The rest is printed after the last live read, and only the storage has it.
    face.live.files.pop((task, 1))
    text += b"the end, without a newline"
    face.store_files(task, tmp_path, {}, {"stdout.log": text})
    face.end(task)
    assert reading.whole() == text
    assert reading.attempt == "1"


def test_a_log_whose_attempt_is_lost_ends_and_the_next_attempt_is_followed(
    face: Face, http: httpx.Client, tmp_path: Path
) -> None:
    task = face.submit()
    face.run(task)
    face.live.logs[task, 1, LogStream.STDOUT] = b"first try"
    reading = Reading(http, f"/v1/tasks/{task}/logs?follow=true")
    wait_for(lambda: reading.data == b"first try")
    face.lose(task)
    assert reading.whole() == b"first try"
    second = Reading(http, f"/v1/tasks/{task}/logs?follow=true&attempt=2")
    wait_for(lambda: face.app.state.feed._watchers)
    face.run(task)
    face.live.logs[task, 2, LogStream.STDOUT] = b"second try"
    wait_for(lambda: second.data == b"second try")
    face.store_files(task, tmp_path, {}, {"stdout.log": b"second try"})
    face.end(task)
    assert second.whole() == b"second try"


def test_a_log_goes_on_when_another_process_takes_the_attempt_over(
    face: Face, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = face.submit()
    face.run(task)
    face.live.logs[task, 1, LogStream.STDOUT] = b"before "
    reading = Reading(http, f"/v1/tasks/{task}/logs?follow=true")
    wait_for(lambda: reading.data == b"before ")
    folder = face.live.files.pop((task, 1))
    with pytest.raises(HolderGone):
        asyncio.run(face.live.samples("holder", task, 1))
    face.live.logs[task, 1, LogStream.STDOUT] = b"before after"
    face.live.files[task, 1] = folder
    face.live.ended.add((task, 1))
    assert reading.whole() == b"before after"


def test_a_cancelled_queued_task_ends_the_wait_for_its_log(face: Face, http: httpx.Client) -> None:
    task = face.submit()
    reading = Reading(http, f"/v1/tasks/{task}/logs?follow=true")
    wait_for(lambda: face.app.state.feed._watchers)
    face.post(f"/v1/tasks/{task}:cancel")
    assert reading.whole() == b""


def test_a_file_of_several_parts_is_sent_resumed_and_used(face: Face, http: httpx.Client) -> None:
    data = os.urandom(16 * 1024**2 + 12345)
    sha256 = hashlib.sha256(data).hexdigest()
    body = {"files": [{"sha256": sha256, "size": len(data)}]}
    bare = httpx.Client(base_url=http.base_url, timeout=DEADLINE, trust_env=False)

    def upload(count: int) -> str:
        [plan] = http.post("/v1/inputs:negotiate", json=body).json()["uploads"]
        assert len(plan["parts"]) == count
        for part in plan["parts"][:1] if count == 2 else plan["parts"]:
            start = (part["number"] - 1) * plan["part_size"]
            assert bare.put(part["url"], content=data[start : start + part["size"]]).status_code == 200
        return str(plan["complete"])

    with bare:
        assert bare.post(upload(2), json={}).status_code == 409
        assert bare.post(upload(1), json={}).status_code == 204
    assert http.post("/v1/inputs:negotiate", json=body).json()["uploads"] == []


def test_a_body_that_is_too_large_is_refused_while_it_arrives(face: Face, http: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(17 * 16):
            yield bytes(65536)

    answer = http.post("/v1/inputs", content=endless())
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/objects/../../../etc/passwd",
        "/v1/objects/%2e%2e/%2e%2e/etc/passwd",
        "/v1/objects/..%5c..%5cboot.ini",
        "/v1/tasks/../../etc/passwd",
        "//v1/objects//etc/passwd",
        "/v1/simulators/..%2f..%2fetc",
    ],
)
def test_raw_paths_that_leave_find_nothing(face: Face, http: httpx.Client, target: str) -> None:
    url = urlsplit(str(http.base_url))
    with socket.create_connection((url.hostname or "", url.port or 0), DEADLINE) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {face.key}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ")[1] in {b"403", b"404"}
    assert b"application/problem+json" in answer


def test_outputs_of_many_megabytes_stream_whole(face: Face, http: httpx.Client, tmp_path: Path) -> None:
    files = {f"part {i}.bin": os.urandom(3_000_000) for i in range(4)} | {"zeros.bin": bytes(20_000_000)}
    task = face.submit()
    face.finish(task, tmp_path, files)
    with zipfile.ZipFile(io.BytesIO(http.get(f"/v1/tasks/{task}/outputs:download").content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    answer = http.get(f"/v1/tasks/{task}/outputs/content", params={"path": "zeros.bin"})
    assert answer.content == files["zeros.bin"]


def test_damage_found_at_the_end_breaks_the_answer_off(face: Face, http: httpx.Client, tmp_path: Path) -> None:
    task = face.submit()
    face.finish(task, tmp_path, {"random.bin": os.urandom(5_000_000)})
    [pack] = [info.key for info in face.storage.list(f"tasks/{task}/1") if info.key.endswith(".zip")]
    data = bytearray(face.storage.get(pack))
    data[4_900_000] ^= 1
    face.storage.put(pack, bytes(data))
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(f"/v1/tasks/{task}/outputs/content", params={"path": "random.bin"})


def test_a_slow_store_does_not_hold_up_the_others(
    face: Face, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    listing = face.store.list

    def slow(query: object) -> object:
        entered.set()
        assert release.wait(DEADLINE)
        return listing(query)  # type: ignore[arg-type]

    monkeypatch.setattr(face.store, "list", slow)
    reading = Reading(http, "/v1/tasks")
    assert entered.wait(DEADLINE)
    assert http.get("/v1/health").status_code == 200
    release.set()
    assert b'"tasks"' in reading.whole()


def test_progress_that_comes_while_following_is_seen_at_once(face: Face, http: httpx.Client) -> None:
    task = face.submit()
    face.dispatch(task)
    reading = Reading(http, f"/v1/tasks/{task}/events")
    wait_for(lambda: b'"preparing"' in reading.data)
    face.store.apply(task, Progress(1, Status.RUNNING), face.clock.now)
    wait_for(lambda: b'"running"' in reading.data)
    face.end(task, Status.FAILED, stored=False)
    assert parse(reading.whole().decode())[-1].status == "failed"
