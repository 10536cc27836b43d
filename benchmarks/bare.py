"""Servers without Ray, each a process of its own: our application under uvicorn, and FastAPI alone.

`python -m benchmarks.bare app|fastapi|streams PORT FOLDER` serves until it is ended. Each answers `GET /requests` with
how many other requests it has been sent.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.head import free_port
from serve.api import build_app
from serve.collector import calm
from serve.context import Context
from simyard.group import Machine, MachineGroup
from simyard.resources import GIB
from storage.objects import open_store
from tasks.keys import new_key
from tasks.live import MemoryLive
from tasks.store import open_store as open_task_store

MACHINE = Machine(
    id="m", name="m", group="local", cpus=2, memory=8 * GIB, gpus=0, cpus_free=2, memory_free=8 * GIB, gpus_free=0
)


class NobodyToWake:
    """Stands for a dispatcher that sleeps."""

    async def wake(self) -> None:
        """Do nothing."""


async def _groups() -> tuple[MachineGroup, ...]:
    return (MachineGroup(name="local", machines=(MACHINE,)),)


def app_of(folder: Path) -> FastAPI:
    """Return our application over a SQLite file and a folder; `key` in the folder has an API key for it."""
    store = open_task_store(folder / "simyard.db")
    secret, key = new_key("ada", datetime.now(UTC))
    store.add_key(key)
    (folder / "key").write_text(secret)
    calm()
    return build_app(
        Context(
            store=store,
            storage=open_store((folder / "storage").as_uri()),
            live=MemoryLive(),
            waker=NobodyToWake(),
            groups=_groups,
            secret=b"\x07" * 32,
        )
    )


def fastapi_alone() -> FastAPI:
    """Return an application that answers every submission with its own body."""
    app = FastAPI()

    @app.get("/v1/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/v1/tasks")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), status_code=201, media_type="application/json")

    return app


def streams_alone() -> FastAPI:
    """Return an application that sends what it is told to every stream that is open."""
    app = FastAPI()
    told: list[bytes] = []
    news = [asyncio.Event()]

    @app.get("/v1/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/v1/news")
    async def tell(request: Request) -> None:
        told.append(await request.body())
        news.append(asyncio.Event())
        news.pop(0).set()

    @app.get("/v1/events")
    async def follow() -> Response:
        return StreamingResponse(stream(), media_type="text/event-stream")

    async def stream() -> AsyncIterator[bytes]:
        seen = len(told)
        yield b"id: 0\n\n"
        while True:
            await news[0].wait()
            while seen < len(told):
                seen += 1
                yield told[seen - 1]

    return app


class Counted:
    """Counts the requests that an application is sent, and answers with their number."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but the question."""
        if scope["type"] == "http" and scope["path"] == "/requests":
            await Response(str(self._count))(scope, receive, send)
            return
        self._count += scope["type"] == "http"
        await self._app(scope, receive, send)


def requests_of(url: str) -> int:
    """Return how many requests a server has been sent, but for this question."""
    return int(httpx.get(f"{url}/requests", trust_env=False, timeout=60).raise_for_status().text)


@contextmanager
def served(kind: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Give the address and the process of a server that is stopped afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", kind, str(port), str(folder)])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"the server {kind} did not start")
            time.sleep(0.05)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def cpu_ms(processes: list[psutil.Process]) -> float:
    """Return the CPU milliseconds that living processes have used."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total * 1000


if __name__ == "__main__":
    kind, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    makers: dict[str, Callable[[], FastAPI]] = {
        "app": lambda: app_of(folder),
        "fastapi": fastapi_alone,
        "streams": streams_alone,
    }
    uvicorn.run(Counted(makers[kind]()), host="127.0.0.1", port=port, log_level="warning", access_log=False)
