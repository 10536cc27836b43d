"""Outputs on their way from the storage into a folder: by ranges of packs, in parallel, checked by their hashes."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from simyard import errors
from simyard.connection import Connection
from simyard.files import Codec, ManifestEntry
from simyard.folder import show
from simyard.placing import Place
from simyard.progress import Meter, Progress, Stage
from simyard.ranges import read_object
from simyard.resources import MIB

THREADS = 8
GAP = 1 * MIB
"""Bytes that are rather read and thrown away than asked around."""
SPAN = 32 * MIB
"""Bytes after which a range is closed, so that several are read at once."""
_TRIES = 3


class _Object(BaseModel):
    url: str
    size: int


class Listing(BaseModel):
    """The outputs of an attempt and where their bytes are."""

    attempt: int
    entries: tuple[ManifestEntry, ...]
    objects: dict[str, _Object]


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What a download did."""

    folder: Path
    files: tuple[str, ...]
    """Paths below the folder."""
    bytes: int
    """Of the files together."""
    already_there: int
    """How many of the files had been there with the right bytes."""
    left_out: tuple[str, ...]
    """Symbolic links that lead out of the folder, or cannot be made here."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Entries of one object that are read by one request."""

    object: str
    entries: tuple[ManifestEntry, ...]

    @property
    def start(self) -> int:
        """The first byte."""
        return self.entries[0].offset

    @property
    def length(self) -> int:
        """How many bytes."""
        return max(entry.offset + entry.length for entry in self.entries) - self.start


def list_outputs(connection: Connection, task: str, glob: str | None = None, attempt: int | None = None) -> Listing:
    """Return a task's outputs, by default those of its result."""
    params = {name: value for name, value in (("glob", glob), ("attempt", attempt)) if value is not None}
    return connection.ask(Listing, "GET", f"/v1/tasks/{task}/outputs", params=params, timeout=300)


def plan(entries: Sequence[ManifestEntry]) -> list[Span]:
    """Return the ranges to read: neighbours in an object are read together, up to some MiB."""
    spans: list[Span] = []
    chosen: list[ManifestEntry] = []
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.object or "", entry.offset)):
        if chosen and (
            entry.object != chosen[0].object
            or entry.offset - end > GAP
            or entry.offset < end
            or end - chosen[0].offset > SPAN
        ):
            spans.append(Span(object=chosen[0].object or "", entries=tuple(chosen)))
            chosen = []
        chosen.append(entry)
        end = entry.offset + entry.length
    if chosen:
        spans.append(Span(object=chosen[0].object or "", entries=tuple(chosen)))
    return spans


class Download:
    """Brings the outputs of a task into a folder."""

    def __init__(
        self,
        connection: Connection,
        task: str,
        folder: str | os.PathLike[str],
        *,
        glob: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._connection = connection
        self._task = task
        self._glob = glob
        self._place = Place(folder)
        self._progress = progress
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._urls: dict[str, str] = {}
        self._attempt: int | None = None

    def run(self) -> Downloaded:
        """Return when every output is in the folder.

        Raises:
            NotFound: the task has no outputs, or none that fits the glob.
            Damaged: what arrived is not what was stored.
            SimyardError: the folder cannot take it, or the server refused.
        """
        listing = list_outputs(self._connection, self._task, self._glob)
        if self._glob is not None and not listing.entries:
            raise errors.NotFound(
                f"No output matches {self._glob!r}.",
                field="glob",
                fix=f"`simyard tasks files {self._task}` lists them; ** crosses folders.",
            )
        self._attempt = listing.attempt
        self._urls = {name: found.url for name, found in listing.objects.items()}
        for entry in listing.entries:
            self._place.path(entry)
        self._place.prepare()
        links = [entry for entry in listing.entries if entry.link is not None]
        files = [entry for entry in listing.entries if entry.link is None]
        meter = Meter(Stage.DOWNLOAD, len(files), sum(entry.size for entry in files), self._progress)
        there = self._fetch_all(files, meter)
        left_out = {entry.path for entry in self._place.link(links)}
        meter.finish()
        return Downloaded(
            folder=self._place.folder,
            files=tuple(entry.path for entry in listing.entries if entry.path not in left_out),
            bytes=sum(entry.size for entry in files),
            already_there=there,
            left_out=tuple(sorted(left_out)),
        )

    def _fetch_all(self, files: Sequence[ManifestEntry], meter: Meter) -> int:
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="simyard-download")
        try:
            present = dict(zip(files, pool.map(self._is_there, files), strict=True))
            for entry in files:
                if present[entry]:
                    self._place.refresh(entry)
                    meter.add(bytes=entry.size, files=1)
            wanted = [entry for entry in files if not present[entry]]
            jobs = [pool.submit(self._fetch, span, meter) for span in plan(wanted)]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return sum(present.values())

    def _is_there(self, entry: ManifestEntry) -> bool:
        return not self._stop.is_set() and self._place.has(entry)

    def _fetch(self, span: Span, meter: Meter) -> None:
        left = list(span.entries)
        for number in range(1, _TRIES + 1):
            try:
                self._fetch_once(Span(object=span.object, entries=tuple(left)), left, meter)
            except errors.Damaged:
                if number == _TRIES:
                    raise
            else:
                return

    def _fetch_once(self, span: Span, left: list[ManifestEntry], meter: Meter) -> None:
        """Write the entries of a span; those that are written leave the list."""
        address = self._address(span.object)
        source = _Source(read_object(self._connection, address, span.start, span.length, self._stop.is_set), span.start)
        for entry in span.entries:
            written = 0
            try:
                with self._place.writing(entry) as file:
                    for piece in _inflated(entry, source.take(entry)):
                        file.write(piece)
                        written += len(piece)
                        meter.add(bytes=len(piece))
            except BaseException:
                meter.add(bytes=-written)
                raise
            left.remove(entry)
            meter.add(files=1)

    def _address(self, name: str) -> Callable[[str | None], str]:
        def address(expired: str | None) -> str:
            with self._lock:
                # Another thread may have asked for fresh addresses already.
                if expired is not None and self._urls.get(name) == expired:
                    listing = list_outputs(self._connection, self._task, self._glob, self._attempt)
                    self._urls = {key: found.url for key, found in listing.objects.items()}
                if name not in self._urls:
                    raise errors.Damaged(f"The storage has lost {name!r}.", fix="Ask the server's operator.")
                return self._urls[name]

        return address


class _Source:
    """A stream of an object's bytes that entries are taken from in their order."""

    def __init__(self, chunks: Iterator[bytes], position: int) -> None:
        self._chunks = chunks
        self._position = position
        self._rest = b""

    def take(self, entry: ManifestEntry) -> Iterator[bytes]:
        """Give the bytes of an entry as they are stored."""
        for _ in self._next(entry.offset - self._position):
            pass
        yield from self._next(entry.length)

    def _next(self, count: int) -> Iterator[bytes]:
        while count > 0:
            chunk = self._rest or next(self._chunks, b"")
            if not chunk:
                return
            piece, self._rest = chunk[:count], chunk[count:]
            count -= len(piece)
            self._position += len(piece)
            yield piece


def _inflated(entry: ManifestEntry, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give a file's own bytes; the end comes only when size and hash are right.

    Raises:
        Damaged: they are not.
    """
    digest, size = hashlib.sha256(), 0
    for piece in _decoded(entry, pieces):
        size += len(piece)
        if size > entry.size:
            break
        digest.update(piece)
        yield piece
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise errors.Damaged(f"{show(entry.path)} arrived with other bytes than were stored.", fix="Download it again.")


def _decoded(entry: ManifestEntry, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if entry.codec is Codec.STORED:
        yield from pieces
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            rest = piece
            while rest:
                yield inflater.decompress(rest, MIB)
                rest = inflater.unconsumed_tail
        while tail := inflater.decompress(b"", MIB):
            yield tail
        yield inflater.flush()
    except zlib.error as error:
        raise errors.Damaged(f"{show(entry.path)} arrived garbled.", fix="Download it again.") from error
