"""A wire between a client and a server that a test may cut at a commit."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Literal

Cut = Literal["before", "after"]
_COMMIT = b"COMMIT\0"


class Wiretap:
    """Forwards connections to a port of the loopback address; when armed, it cuts the next one that commits.

    `before` cuts it before the server has seen the commit, `after` once the server has answered to it, which the client
    then never hears.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._armed: Cut | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)

    def cut_next_commit(self, how: Cut) -> None:
        with self._lock:
            self._armed = how

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            self._sockets += [client, server]
            self._spawn(self._forward, client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            deaf = False
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return self._end(client, server)
                    if ready is server:
                        if deaf:
                            return self._end(client, server)
                        client.sendall(data)
                        continue
                    how = self._disarm(data)
                    if how == "before":
                        return self._end(client, server)
                    deaf = deaf or how == "after"
                    server.sendall(data)
        return None

    def _disarm(self, data: bytes) -> Cut | None:
        with self._lock:
            if self._armed is None or _COMMIT not in data:
                return None
            how, self._armed = self._armed, None
            self.cuts += 1
            return how

    @staticmethod
    def _end(client: socket.socket, server: socket.socket) -> None:
        for one in (client, server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
