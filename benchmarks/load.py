"""A client that costs little: many connections, one request after the other on each, from one process of its own.

`python -m benchmarks.load` reads one JSON object from its standard input and prints one: seconds, latencies, CPU.
"""

from __future__ import annotations

import json
import math
import resource
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

DEADLINE = 300.0


@dataclass
class _Line:
    """A connection, the request that is under way on it, and what has come of its answer."""

    link: socket.socket
    begun: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def is_complete(self) -> bool:
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        lowered = bytes(head).lower()
        if b"transfer-encoding: chunked" in lowered:
            return body.endswith(b"0\r\n\r\n")
        length = lowered.partition(b"content-length:")[2].partition(b"\r\n")[0]
        return len(body) >= int(length)


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """Send `count` requests over `connections` connections; `{n}` in the head is replaced by a number of its own."""
    url = urlsplit(asked["url"])
    body = asked["body"].encode()
    head = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {asked['key']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Idempotency-Key: {asked['mark']}-{{n}}\r\n\r\n"
    )
    selector = selectors.DefaultSelector()
    for _ in range(asked["connections"]):
        link = socket.create_connection((url.hostname, url.port), timeout=DEADLINE)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(link, selectors.EVENT_READ, _Line(link))
    sent, taken = 0, list[float]()
    statuses: dict[str, int] = {}

    def send(line: _Line) -> None:
        nonlocal sent
        line.received.clear()
        line.begun = time.perf_counter()
        line.link.sendall(head.replace("{n}", str(sent)).encode() + body)
        sent += 1

    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    for key in list(selector.get_map().values()):
        send(key.data)
    while len(taken) < asked["count"]:
        if time.perf_counter() - start > DEADLINE:
            raise SystemExit("the server took too long")
        for key, _ in selector.select(DEADLINE):
            line: _Line = key.data
            data = line.link.recv(1 << 20)
            if not data:
                raise SystemExit(f"the server closed the connection after {bytes(line.received)[:200]!r}")
            line.received += data
            if line.is_complete():
                taken.append(time.perf_counter() - line.begun)
                status = line.received[9:12].decode()
                statuses[status] = statuses.get(status, 0) + 1
                if sent < asked["count"]:
                    send(line)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    taken.sort()
    return {
        "seconds": seconds,
        "per_second": len(taken) / seconds,
        "p50_ms": taken[len(taken) // 2] * 1000,
        "p99_ms": taken[math.ceil(len(taken) * 0.99) - 1] * 1000,
        "client_cpu_ms": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000 / len(taken),
        "statuses": statuses,
    }


def load(**asked: Any) -> dict[str, Any]:
    """Return what `run` finds in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE + 60,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
