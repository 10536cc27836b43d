"""Output packs: many small files in one plain zip, each of which can be fetched by range."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from simyard.files import Codec, EntryKind, ManifestEntry
from storage.folder import Folder
from storage.hashing import Hashed
from storage.objects import CHUNK
from storage.retries import check_stopped
from storage.zipped import Sums, ZipWriter, deflated, worthwhile


@dataclass(frozen=True, slots=True)
class Source:
    """A file to store: where it is and what the manifest calls it."""

    folder: Folder
    path: str
    """Path below the folder, as the file system has it."""
    name: str
    """Path in the manifest."""
    kind: EntryKind
    size: int
    """Bytes when the walk met it."""

    def entry(
        self,
        reading: Reading,
        body: Hashed,
        *,
        object: str,  # noqa: A002 - the manifest's word
        offset: int,
        length: int,
        codec: Codec,
    ) -> ManifestEntry:
        """Return the row of the manifest for the bytes that have passed."""
        return ManifestEntry(
            path=self.name,
            kind=self.kind,
            size=body.size,
            mtime_ns=reading.info.st_mtime_ns,
            mode=stat.S_IMODE(reading.info.st_mode),
            sha256=body.sha256,
            object=object,
            offset=offset,
            length=length,
            codec=codec,
        )


class Reading:
    """An open file, of which no more is read than it held when it was opened."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self.info = os.fstat(file.fileno())

    def pieces(self, stopped: Callable[[], bool]) -> Iterator[bytes]:
        """Give the file's bytes; an error of the disk ends them and is told by `trouble`."""
        left = self.info.st_size
        while left > 0:
            check_stopped(stopped)
            try:
                piece = self._file.read(min(CHUNK, left))
            except OSError as error:
                self._error = error
                return
            if not piece:
                return
            left -= len(piece)
            yield piece

    def trouble(self) -> str | None:
        """Return why the bytes that were given may not be the file; None when they are."""
        if self._error is not None:
            return f"only its beginning could be read: {self._error.strerror}"
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.info.st_size, self.info.st_mtime_ns):
            return "it changed while it was stored"
        return None


class Pack:
    """A zip in the making, and the rows of what is in it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._zip = ZipWriter()
        self.entries: list[ManifestEntry] = []

    def add(self, source: Source, reading: Reading, stopped: Callable[[], bool]) -> Iterator[bytes]:
        """Give the pieces of one more member, deflated where that pays.

        Logs are stored as they are, so that they can be read from any offset.
        """
        pieces = reading.pieces(stopped)
        first = next(pieces, b"")
        codec = Codec.DEFLATE if source.kind is EntryKind.OUTPUT and worthwhile(first) else Codec.STORED
        body, sums = Hashed(chain([first], pieces)), Sums()
        raw: Iterable[bytes] = sums.over(body)
        if codec is Codec.DEFLATE:
            raw = deflated(raw)
        info = reading.info
        mode, mtime = info.st_mode, info.st_mtime
        yield from self._zip.add(source.name, raw, sums, codec=codec, mode=mode, mtime=mtime, expected=info.st_size)
        member = self._zip.members[-1]
        self.entries.append(
            source.entry(reading, body, object=self._name, offset=member.offset, length=member.length, codec=codec)
        )

    def add_text(self, name: str, text: bytes) -> Iterator[bytes]:
        """Give the pieces of a log that is made here."""
        body, sums, now = Hashed([text]), Sums(), time.time_ns()
        mode, raw = stat.S_IFREG | 0o644, sums.over(body)
        yield from self._zip.add(name, raw, sums, codec=Codec.STORED, mode=mode, mtime=now / 1e9, expected=len(text))
        member = self._zip.members[-1]
        self.entries.append(
            ManifestEntry(
                path=name,
                kind=EntryKind.LOG,
                size=body.size,
                mtime_ns=now,
                mode=0o644,
                sha256=body.sha256,
                object=self._name,
                offset=member.offset,
                length=member.length,
            )
        )

    def close(self) -> Iterator[bytes]:
        """Give the last pieces."""
        return self._zip.close()


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give the same bytes in pieces of about a MiB, for stores that pay for each piece."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
