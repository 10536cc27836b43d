"""Carries a scenario out in a child that dies at one of its changes of the disk, for each line of standard input.

A line says `SCENARIO FOLDER N TORN`, and what comes back are lines of JSON: first what the scenario was answered, or
where it died, then `{"end": …}` with how the child ended. One interpreter serves all, since starting one for each would
take a second; it stays without threads, so that it may fork.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from serve.api import build_app
from serve.context import Context
from simyard.group import MachineGroup
from storage.local import LocalStore
from storage.memory import MemoryStore as Nowhere
from tasks.live import MemoryLive
from tasks.memory import MemoryStore
from tasks.sqlite.store import SqliteStore
from tests.integration.crashes import scenes

_Say = Callable[[dict[str, Any]], None]
_Arm = Callable[[], None]


class _Waker:
    async def wake(self) -> None:
        pass


async def _groups() -> tuple[MachineGroup, ...]:
    return ()


_CONTEXT = Context(
    store=MemoryStore(), storage=Nowhere(), live=MemoryLive(), waker=_Waker(), groups=_groups, secret=b"\x07" * 32
)
_APP: FastAPI = build_app(_CONTEXT)


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(_APP), base_url="http://simyard", trust_env=False)


async def _warm_up() -> None:
    """Let the application make what it makes at its first request, by one that starts no thread."""
    async with _client() as client:
        assert (await client.get("/nothing")).status_code == 404


def _submission(folder: Path, say: _Say, arm: _Arm) -> None:
    """Send every kind of request that accepts tasks, and say what was answered as soon as it was."""
    # The parts are those of this folder; making the application for each child would take most of the time.
    object.__setattr__(_CONTEXT, "store", SqliteStore(folder / scenes.DATABASE))
    object.__setattr__(_CONTEXT, "storage", LocalStore(folder / scenes.STORAGE))

    async def send(client: httpx.AsyncClient, request: scenes.Request) -> None:
        answer = await client.post(request.url, content=request.body, headers=request.headers)
        assert answer.is_success, answer.text
        say({"answered": request.name, "body": answer.json()})

    async def send_all() -> None:
        async with _client() as client:
            for together in scenes.requests((folder / scenes.KEY).read_text()):
                async with asyncio.TaskGroup() as group:
                    for request in together:
                        group.create_task(send(client, request))

    arm()
    asyncio.run(send_all())


def _completion(folder: Path, say: _Say, arm: _Arm) -> None:
    """Deliver what a run has made and end its task, and say that it is done."""
    with scenes.Site(folder) as site:
        arm()
        site.complete()
    say({"answered": "end"})


def _staging(folder: Path, say: _Say, arm: _Arm) -> None:
    """Bring inputs, which the machine keeps, and say that it is done."""
    arm()
    scenes.stage_inputs(folder)
    say({"answered": "end"})


_SCENARIOS: dict[str, Callable[[Path, _Say, _Arm], None]] = {
    "submission": _submission,
    "completion": _completion,
    "staging": _staging,
}


def _child(scenario: str, folder: Path, at: int, torn: int) -> None:
    shim = ctypes.CDLL(None)

    def say(news: dict[str, Any]) -> None:
        os.write(1, json.dumps(news).encode() + b"\n")

    _SCENARIOS[scenario](folder, say, lambda: shim.crash_arm(ctypes.c_long(at), torn, 1))
    say({"changes": shim.crash_count()})


def main() -> None:
    """Serve until there are no more lines."""
    scenes.use_simulator()
    asyncio.run(_warm_up())
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        scenario, folder, at, torn = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _child(scenario, Path(folder), at, torn)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 - said, and judged by the test
                os.write(1, json.dumps({"failed": repr(error)}).encode() + b"\n")
                os._exit(1)
        _, status = os.waitpid(child, 0)
        os.write(1, json.dumps({"end": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


if __name__ == "__main__":
    main()
