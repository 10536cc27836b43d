"""The HTTP face as a Ray Serve deployment, and the program that puts it onto a running Ray.

`python -m serve.deployment HOST PORT` reads the address of a Ray from its standard input, starts the dispatcher and
Serve on it, and returns once both are asked for; they go on without it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import ray
import uvicorn
from ray import serve as ray_serve

from cluster.bare_worker import leave_arrow_out
from serve.news import MOST
from storage.objects import open_store
from storage.rooms import check_rooms
from storage.settings import load_settings
from tasks.dispatcher import start_dispatcher
from tasks.ray_live import RayDispatcher, RayLive
from tasks.reporting import NAMESPACE
from tasks.store import open_store as open_task_store

if TYPE_CHECKING:
    from fastapi import FastAPI

OTHERS = 2000
"""Connections that are taken beside event streams; who comes then is told to come back later."""
_BIND_SECONDS = 30.0
"""How long the replica before may still hold the port."""
_TURN_SECONDS = 15.0
"""How long the server may take for one turn of its loop before it counts as hung."""
_KEEP_ALIVE_SECONDS = 60


def build() -> FastAPI:
    """Return the application of a replica, over the store and the storage that the settings name."""
    from serve.api import build_app
    from serve.collector import calm
    from serve.context import Context
    from serve.secret import load_secret

    check_rooms()
    settings = load_settings()
    dispatcher = RayDispatcher()
    calm()
    return build_app(
        Context(
            store=open_task_store(settings.task_store),
            storage=open_store(settings.storage_uri),
            live=RayLive(),
            waker=dispatcher,
            groups=dispatcher.groups,
            secret=load_secret(settings),
        )
    )


class _Server(uvicorn.Server):
    """A server that can be asked whether it takes its turns."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def wait_for_turn(self, seconds: float) -> None:
        """Return after the next turn of the loop; raises TimeoutError."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(seconds)


class Face:
    """The HTTP face in a replica of Serve's, which answers on a socket of its own.

    Serve makes it, asks for its health every second, and replaces it; requests do not pass Serve's proxy.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int) -> None:
        config = uvicorn.Config(
            build(),
            lifespan="off",
            log_config=None,
            access_log=False,
            limit_concurrency=MOST + OTHERS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = _Server(config)
        listening = {"sockets": [_bound(host, port)]}
        self._thread = threading.Thread(target=self._server.run, kwargs=listening, name="http", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Raise where nobody answers any more."""
        if not self._thread.is_alive():
            raise RuntimeError("The HTTP server has ended.")
        self._server.wait_for_turn(_TURN_SECONDS)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket of this address, which one that has just died may hold for a moment."""
    deadline = time.monotonic() + _BIND_SECONDS
    while True:
        listener = socket.socket()
        # What is left of the connections of the one before does not keep the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return listener


def deploy(address: str, host: str, port: int) -> None:
    """Start the dispatcher and the HTTP face on the Ray at `address`."""
    leave_arrow_out()
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    start_dispatcher()
    ray_serve.start(proxy_location="Disabled")
    api = ray_serve.deployment(
        name="api",
        # It is also how long nobody sees that the replica has died.
        health_check_period_s=1,
        # Nobody sends it requests by way of Serve: there is nothing to wait for.
        graceful_shutdown_timeout_s=0,
        graceful_shutdown_wait_loop_s=0,
        # On the head, and on no machine that would cost money only to answer requests.
        ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(Face)
    ray_serve.run(api.bind(host, port), name="simyard", route_prefix=None, blocking=False)


if __name__ == "__main__":
    if told := sys.stdin.readline().strip():  # else whoever started this has died meanwhile
        deploy(told, sys.argv[1], int(sys.argv[2]))
