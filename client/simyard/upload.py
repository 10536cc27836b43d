"""Input files on their way to the storage: only those that are missing, in parts, in parallel, resumable."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from simyard import errors
from simyard.connection import Connection
from simyard.folder import HashedFile, read_range
from simyard.progress import Meter, Progress, Stage

THREADS = 8
BATCH = 1000
"""Files of one negotiation: the signed addresses stay fresh and few."""
_MISSES = 3
_SLOWEST = 20_000_000
"""Bytes a second at which a server at least reads a file again to check its hash."""


class _Part(BaseModel):
    number: int = Field(ge=1)
    size: int = Field(ge=0)
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class _Grant(BaseModel):
    """Where the parts of one file that are missing go."""

    sha256: str
    size: int
    part_size: int
    parts: tuple[_Part, ...]
    complete: str | None = None


class _Grants(BaseModel):
    uploads: tuple[_Grant, ...]


class _Stored(BaseModel):
    sha256: str


class _Stopped(Exception):  # noqa: N818 - never leaves this module
    """Another part failed, or the user pressed Ctrl-C."""


@dataclass
class _Sending:
    """One file on its way."""

    file: HashedFile
    grant: _Grant
    etags: dict[str, str] = field(default_factory=dict)
    stale: bool = False
    """The grant does not hold any more: ask for another one."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Upload:
    """Brings files to the storage of a server.

    Asking again after an interruption sends only the parts that are still missing.
    """

    def __init__(
        self,
        connection: Connection,
        files: Sequence[HashedFile],
        *,
        progress: Progress | None = None,
    ) -> None:
        self._connection = connection
        self._files = {file.sha256: file for file in files}
        self._meter = Meter(
            Stage.UPLOAD, len(self._files), sum(file.file.size for file in self._files.values()), progress
        )
        self._counted: dict[str, int] = {}
        self._stop = threading.Event()

    def run(self) -> None:
        """Return when every file is in the storage.

        Raises:
            UnreadableInput: a file changed since it was hashed.
            SimyardError: the server refused.
        """
        hashes = list(self._files)
        for start in range(0, len(hashes), BATCH):
            self._bring(hashes[start : start + BATCH])
        self._meter.finish()

    def missing(self, hashes: Sequence[str]) -> tuple[_Grant, ...]:
        """Ask which of these files the storage lacks, and where their parts go."""
        body = {"files": [{"sha256": sha256, "size": self._files[sha256].file.size} for sha256 in hashes]}
        asked = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._connection.ask(
            _Grants, "POST", "/v1/inputs:negotiate", body=asked, headers=headers, repeatable=True, timeout=300
        ).uploads

    def _bring(self, hashes: Sequence[str]) -> None:
        left, misses, best = list(hashes), 0, None
        while left:
            grants = [grant for grant in self.missing(left) if grant.sha256 in self._files]
            self._count(left, grants)
            parts = sum(len(grant.parts) + 1 for grant in grants)
            misses = misses + 1 if best is not None and parts >= best else 0
            if misses > _MISSES:
                name = self._files[grants[0].sha256].file.path
                raise errors.Unavailable(f"The storage did not take {name!r}.", field="inputs", fix="Try again.")
            best = parts if best is None else min(parts, best)
            left = self._send([_Sending(self._files[grant.sha256], grant) for grant in grants])

    def _count(self, hashes: Sequence[str], grants: Sequence[_Grant]) -> None:
        """Bring the meter to what the storage says it has."""
        lacking = {grant.sha256: sum(part.size for part in grant.parts) for grant in grants}
        for sha256 in hashes:
            there = self._files[sha256].file.size - lacking.get(sha256, 0)
            self._meter.add(bytes=there - self._counted.get(sha256, 0), files=int(sha256 not in lacking))
            self._counted[sha256] = there

    def _send(self, work: Sequence[_Sending]) -> list[str]:
        """Send all parts, complete their files, and return the hashes of those that need another grant."""
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="simyard-upload")
        try:
            jobs: list[Future[None]] = []
            for sending in work:
                if sending.grant.parts:
                    jobs += [pool.submit(self._send_part, sending, part) for part in sending.grant.parts]
                else:
                    jobs.append(pool.submit(self._complete, sending))
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [sending.file.sha256 for sending in work if sending.stale]

    def _send_part(self, sending: _Sending, part: _Part) -> None:
        if sending.stale or self._stop.is_set():
            return
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            self._meter.add(bytes=-sent)
            sent = 0
            if self._stop.is_set():
                raise _Stopped
            for chunk in _bytes_of(sending, part):
                if self._stop.is_set():
                    raise _Stopped
                yield chunk
                sent += len(chunk)
                self._meter.add(bytes=len(chunk))

        headers = part.headers | {"Content-Length": str(part.size)}
        whole = _goes_whole(sending, part)
        try:
            if whole:
                stored = self._connection.ask(
                    _Stored, "POST", "/v1/inputs", body=body, headers=headers, repeatable=True
                )
            else:
                answer = self._connection.request("PUT", part.url, body=body, headers=headers)
        except errors.UnreadableInput:
            raise
        except (errors.Unauthorized, errors.NotFound, errors.Conflict, errors.InvalidInput):
            self._meter.add(bytes=-sent)
            sending.stale = True
            return
        if whole:
            sending.stale = stored.sha256 != sending.file.sha256
            self._meter.add(files=int(not sending.stale))
            return
        with sending.lock:
            self._counted[sending.file.sha256] += part.size
            sending.etags[str(part.number)] = answer.headers.get("ETag", "")
            is_last = len(sending.etags) == len(sending.grant.parts)
        if is_last:
            self._complete(sending)

    def _complete(self, sending: _Sending) -> None:
        file = sending.file.file
        if sending.grant.complete is not None:
            try:
                self._connection.request(
                    "POST",
                    sending.grant.complete,
                    body=json.dumps({"etags": sending.etags}).encode(),
                    headers={"Content-Type": "application/json"},
                    repeatable=True,
                    timeout=60 + file.size / _SLOWEST,
                )
            except (errors.Unauthorized, errors.NotFound, errors.Conflict):
                sending.stale = True
                return
            except errors.InvalidInput:
                # The bytes do not have the hash: they were harmed on the way, or the file is another one by now.
                for _ in read_range(file, 0, file.size):
                    pass
                sending.stale = True
                return
        self._meter.add(files=1)


def _goes_whole(sending: _Sending, part: _Part) -> bool:
    """Say whether the file is small and goes to the API anyway: then one request does, and not two."""
    return part.size == sending.file.file.size and part.url.startswith("/") and sending.grant.complete is not None


def _bytes_of(sending: _Sending, part: _Part) -> Iterator[bytes]:
    """Give the bytes of a part; of a file in one piece the last ones only when all have the right hash."""
    file = sending.file.file
    start = (part.number - 1) * sending.grant.part_size
    if part.size != file.size:
        yield from read_range(file, start, part.size)
        return
    digest, held = hashlib.sha256(), b""
    for chunk in read_range(file, 0, file.size):
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != sending.file.sha256:
        raise file.changed
    if held:
        yield held
