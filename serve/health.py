"""Whether the server lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

import anyio
from anyio import to_thread
from fastapi import APIRouter, Response

from serve.context import HasContext
from serve.streams import json_answer
from simyard.errors import SimyardError
from simyard.words import Word
from storage.paths import Paths

router = APIRouter(tags=["health"])
_SECONDS = 5.0


class Health(Word):
    """The server answers."""

    status: str
    version: str


class Readiness(Word):
    """Whether the server can take and run tasks; each check says `ok` or what is wrong."""

    ready: bool
    checks: dict[str, str]


def server_version() -> str:
    """Return the installed version of the server."""
    try:
        return version("simyard-server")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return version("simyard")


@router.get("/v1/health", summary="Is the server alive?")
async def health() -> Health:
    """Answer, with the server's version; nothing else is asked."""
    return Health(status="ok", version=server_version())


@router.get(
    "/v1/ready",
    summary="Can the server work?",
    response_model=Readiness,
    responses={503: {"description": "Not at present: the checks say why.", "model": Readiness}},
)
async def ready(context: HasContext) -> Response:
    """Ask the store, the storage and the machines, each for at most five seconds."""
    checks: dict[str, Callable[[], Awaitable[object]]] = {
        "store": lambda: to_thread.run_sync(context.store.latest, abandon_on_cancel=True),
        "storage": lambda: to_thread.run_sync(context.storage.head, Paths.input("0" * 64), abandon_on_cancel=True),
        "machines": context.groups,
    }
    said: dict[str, str] = {}

    async def run(name: str, check: Callable[[], Awaitable[object]]) -> None:
        try:
            with anyio.fail_after(_SECONDS):
                await check()
            said[name] = "ok"
        except SimyardError as error:
            said[name] = str(error)
        except TimeoutError:
            said[name] = f"It gave no answer in {_SECONDS:g} seconds."

    async with anyio.create_task_group() as group:
        for name, check in checks.items():
            group.start_soon(run, name, check)
    is_ready = all(answer == "ok" for answer in said.values())
    return json_answer(Readiness(ready=is_ready, checks=dict(sorted(said.items()))), 200 if is_ready else 503)
