"""A server behind httpx's mock transport, with a clock that only pauses move."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import SecretStr

from simyard.backoff import Patience
from simyard.connection import Connection
from simyard.profile import Profile

URL = "http://yard.test"
STORAGE = "https://storage.test"
KEY = "sy_secret"

Handler = Callable[[httpx.Request], httpx.Response]
Fault = Callable[[httpx.Request], httpx.Response | None]


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.pauses.append(seconds)
            self.now += seconds


def patience(clock: Clock) -> Patience:
    return Patience(sleep=clock.sleep, clock=clock, chance=lambda: 1.0)


def connection(handler: Handler, clock: Clock | None = None, url: str = URL) -> Connection:
    profile = Profile(url=url, key=SecretStr(KEY))
    return Connection(profile, transport=httpx.MockTransport(handler), patience=patience(clock or Clock()))


def problem(status: int, kind: str, detail: str, **more: str) -> httpx.Response:
    body = {"type": f"urn:simyard:problem:{kind}", "title": kind, "status": status, "detail": detail} | more
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


@dataclass
class FakeInputs:
    """The input side of the API: negotiation, parts at another origin, and completion that checks the hash."""

    part_size: int = 8
    faults: list[Fault] = field(default_factory=list)
    """Asked in turn before each request; one that answers is used up."""

    def __post_init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.requests: list[httpx.Request] = []
        self.generation = 0
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.requests.append(request)
            for fault in list(self.faults):
                answer = fault(request)
                if answer is not None:
                    self.faults.remove(fault)
                    return answer
            return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/inputs:negotiate":
            return self._negotiate(json.loads(request.content))
        if match := re.fullmatch(r"/bucket/(\w+)/(\d+)", path):
            assert request.method == "PUT"
            if parse_qs(urlsplit(str(request.url)).query)["generation"] != [str(self.generation)]:
                return httpx.Response(403, text="<Error><Code>AccessDenied</Code></Error>")
            self.parts.setdefault(match[1], {})[int(match[2])] = request.content
            return httpx.Response(200, headers={"ETag": f'"e{match[2]}"'})
        if match := re.fullmatch(r"/v1/uploads/(\w+):complete", path):
            return self._complete(match[1], json.loads(request.content)["etags"])
        return problem(404, "not-found", "There is no such thing.")

    def _negotiate(self, body: dict[str, list[dict[str, object]]]) -> httpx.Response:
        uploads = []
        for file in body["files"]:
            sha256, size = str(file["sha256"]), int(str(file["size"]))
            if sha256 in self.stored:
                continue
            count = max(1, -(-size // self.part_size))
            there = self.parts.get(sha256, {})
            parts = [
                {
                    "number": n,
                    "size": min(self.part_size, size - (n - 1) * self.part_size) if size else 0,
                    "url": f"{STORAGE}/bucket/{sha256}/{n}?generation={self.generation}",
                    "headers": {"X-Part": str(n)},
                }
                for n in range(1, count + 1)
                if n not in there
            ]
            complete = f"/v1/uploads/{sha256}:complete"
            uploads.append(
                {"sha256": sha256, "size": size, "part_size": self.part_size, "upload": "u", "parts": parts}
                | {"complete": complete, "new": "field"}
            )
        return httpx.Response(200, json={"uploads": uploads})

    def _complete(self, sha256: str, etags: dict[str, str]) -> httpx.Response:
        parts = self.parts.pop(sha256, {})
        data = b"".join(parts[n] for n in sorted(parts))
        if hashlib.sha256(data).hexdigest() != sha256:
            return problem(422, "invalid-input", "The bytes do not have the hash.")
        assert all(etags[n] == f'"e{n}"' for n in etags)
        self.stored[sha256] = data
        return httpx.Response(204)
