"""The server that a replica of Serve's holds, without Ray."""

from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest
from fastapi import FastAPI

from cluster.head import free_port
from serve import face as face_module
from serve.face import Face
from tests.integration.serve.server import wait_for

HOST = "127.0.0.1"


@pytest.fixture
def app() -> FastAPI:
    """Return a small application."""
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.get("/hang")
    async def hang() -> None:
        time.sleep(1.0)  # noqa: ASYNC251 - the loop takes no turn meanwhile

    return app


@pytest.fixture
def port() -> int:
    """Return a free port."""
    return free_port()


def close(face: Face) -> None:
    face._server.should_exit = True
    face._thread.join(10)
    assert not face._thread.is_alive()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/").status_code == 200
    except httpx.ConnectError:
        return False


def test_it_answers_and_is_healthy_until_its_server_has_ended(app: FastAPI, port: int) -> None:
    face = Face(app, HOST, port)
    wait_for(lambda: answers(port))
    face.check_health()
    close(face)
    with pytest.raises(RuntimeError, match="has ended"):
        face.check_health()


def test_one_that_takes_no_turns_is_not_healthy(app: FastAPI, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    face = Face(app, HOST, port)
    wait_for(lambda: answers(port))
    monkeypatch.setattr(face_module, "_TURN_SECONDS", 0.05)
    asked = threading.Thread(target=lambda: httpx.get(f"http://{HOST}:{port}/hang"))
    asked.start()

    def hangs() -> bool:
        try:
            face.check_health()
        except TimeoutError:
            return True
        return False

    wait_for(hangs)
    asked.join()
    wait_for(lambda: not hangs())
    close(face)


def test_it_waits_for_the_port_of_the_one_before(app: FastAPI, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind((HOST, port))
        holder.listen()
        free = threading.Timer(0.5, holder.close)
        free.start()
        face = Face(app, HOST, port)
        free.join()
    wait_for(lambda: answers(port))
    monkeypatch.setattr(face_module, "_BIND_SECONDS", 0.2)
    with pytest.raises(OSError, match="in use"):
        Face(app, HOST, port)
    close(face)


def test_connections_of_the_one_before_do_not_keep_the_port(app: FastAPI, port: int) -> None:
    first = Face(app, HOST, port)
    wait_for(lambda: answers(port))
    with httpx.Client() as client:
        client.get(f"http://{HOST}:{port}/")
        close(first)
        second = Face(app, HOST, port)
        wait_for(lambda: answers(port))
    close(second)


def test_too_many_connections_are_told_so(app: FastAPI, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_module, "MOST", 0)
    monkeypatch.setattr(face_module, "OTHERS", 3)
    face = Face(app, HOST, port)
    wait_for(lambda: answers(port))
    idle = [socket.create_connection((HOST, port)) for _ in range(3)]
    wait_for(lambda: httpx.get(f"http://{HOST}:{port}/").status_code == 503)
    for one in idle:
        one.close()
    wait_for(lambda: answers(port))
    close(face)
