"""A client that costs little: many open event streams, read by one process of its own.

`python -m benchmarks.streams` reads JSON lines from its standard input and answers each with one. The first opens the
streams: `url`, `key`, `count`, `within` seconds. The second is an object of the numbers of events and the moments at
which they were on disk (of the machine's monotonic clock): it reads on until every stream has the last of them, and
says how long each took until half of the streams, 99 of a hundred and the last one had it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

SPARE_FILES = 200
_AT_ONCE = 100
_ID = re.compile(rb"^id: (\d+)\r?$", re.MULTILINE)


@dataclass
class _Stream:
    """A stream, the newest event that it has told of, and what has come of an incomplete line."""

    link: socket.socket
    number: int = -1
    rest: bytes = b""
    received: int = 0
    seen: list[tuple[int, float]] = field(default_factory=list)

    def take(self, data: bytes) -> None:
        now = time.monotonic()
        self.received += len(data)
        whole, _, self.rest = (self.rest + data).rpartition(b"\n")
        if found := _ID.findall(whole):
            self.number = int(found[-1])
            self.seen.append((self.number, now))


class _Watchers:
    """All streams of this process."""

    def __init__(self) -> None:
        self.streams: list[_Stream] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin.buffer.fileno(), selectors.EVENT_READ)

    def open(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Open the streams, a hundred at a time, and return once each has begun."""
        url = urlsplit(asked["url"])
        head = f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {asked['key']}\r\n\r\n".encode()
        started = time.monotonic()
        while len(self.streams) < asked["count"]:
            fresh = []
            for _ in range(min(_AT_ONCE, asked["count"] - len(self.streams))):
                stream = _Stream(socket.create_connection((url.hostname, url.port), timeout=asked["within"]))
                stream.link.sendall(head)
                self._selector.register(stream.link, selectors.EVENT_READ, stream)
                fresh.append(stream)
            self.streams += fresh
            while any(stream.number < 0 for stream in fresh):
                self._read(started + asked["within"])
        for stream in self.streams:
            stream.seen.clear()
        return {"open": len(self.streams), "seconds": time.monotonic() - started}

    def _read(self, deadline: float) -> bool:
        """Read what has come or comes next; say whether there is another line on the standard input."""
        asked = False
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        if not ready:
            behind = sum(stream.number < 0 for stream in self.streams)
            raise SystemExit(f"{len(self.streams)} streams, {behind} have not begun, and nothing comes any more")
        for key, _ in ready:
            if key.data is None:
                asked = True
                continue
            stream: _Stream = key.data
            data = stream.link.recv(1 << 18)
            if not data:
                raise SystemExit(f"the server ended a stream after {stream.received} bytes: {stream.rest[:200]!r}")
            stream.take(data)
        return asked

    def follow(self, within: float) -> dict[str, Any]:
        """Read until everybody has what the next line of the standard input names, and return the delays."""
        before, had = _cpu(), sum(stream.received for stream in self.streams)
        while not self._read(time.monotonic() + within):
            pass
        commits = {int(number): at for number, at in json.loads(sys.stdin.buffer.readline()).items()}
        last, deadline = max(commits), time.monotonic() + within
        while any(stream.number < last for stream in self.streams):
            self._read(deadline)
            if time.monotonic() > deadline:
                behind = sum(stream.number < last for stream in self.streams)
                raise SystemExit(f"{behind} of {len(self.streams)} streams have not been told of everything")
        cpu, received = _cpu() - before, sum(stream.received for stream in self.streams) - had
        return _summary(commits, self.streams) | {
            "client_cpu_seconds": cpu,
            "bytes_per_watcher": received / len(self.streams),
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _summary(commits: Mapping[int, float], streams: list[_Stream]) -> dict[str, float]:
    """Return the medians over all events, and the worst last watcher of any."""
    medians, rares, lasts = [], [], []
    for number, at in commits.items():
        delays = sorted(next(when for seen, when in stream.seen if seen >= number) - at for stream in streams)
        medians.append(delays[len(delays) // 2])
        rares.append(delays[len(delays) * 99 // 100])
        lasts.append(delays[-1])
    return {
        "median_watcher": statistics.median(medians),
        "p99_watcher": statistics.median(rares),
        "last_watcher": statistics.median(lasts),
        "worst": max(lasts),
    }


class Watching:
    """Streams that another process holds open."""

    def __init__(self, process: subprocess.Popen[str], within: float) -> None:
        self._process = process
        self._within = within
        self.opened = self._answer()

    def tell(self, commits: Mapping[int, float]) -> dict[str, float]:
        """Return how long the events took, once all streams have them."""
        assert self._process.stdin is not None
        print(json.dumps(dict(commits)), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process that watches has ended")
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def watching(url: str, key: str, count: int, within: float) -> Iterator[Watching]:
    """Give `count` open streams of an address, held by a process of its own; `within` bounds each wait in seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.streams"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        asked = {"url": url, "key": key, "count": count, "within": within}
        print(json.dumps(asked), file=process.stdin, flush=True)
        yield Watching(process, within)
    finally:
        process.kill()
        process.wait(30)


def allow_files(count: int) -> None:
    """Let this process and those that it starts open so many files.

    Raises:
        SystemExit: the system does not let them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"{count} streams need {wanted} open files, and a process may have {hard}: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def main() -> None:
    """Open, follow, answer."""
    asked = json.loads(sys.stdin.buffer.readline())
    watchers = _Watchers()
    print(json.dumps(watchers.open(asked)), flush=True)
    print(json.dumps(watchers.follow(asked["within"])), flush=True)
    # Not one by one: the server has it easier, and so has this process.
    os._exit(0)


if __name__ == "__main__":
    main()
