"""The server of the HTTP face: a socket of our own in a replica of Serve's, since requests pass no proxy of Serve's."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from serve.news import MOST

if TYPE_CHECKING:
    from fastapi import FastAPI

OTHERS = 2000
"""Connections that are taken beside event streams; who comes then is told to come back later."""
_BIND_SECONDS = 30.0
"""How long the replica before may still hold the port."""
_TURN_SECONDS = 8.0
"""How long the server may take for one turn of its loop before it counts as hung."""
_KEEP_ALIVE_SECONDS = 60


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
    """An application that answers on this address, in a thread of its own, as long as the process lives.

    Raises:
        OSError: the port is taken, and still is after half a minute.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
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
