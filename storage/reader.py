"""Stored outputs, read back: one file by range, many as a zip, or all into a folder."""

from __future__ import annotations

import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simyard.files import Codec, ManifestEntry
from storage.errors import ObjectNotFound, OutputDamaged, StorageUnavailable
from storage.folder import Folder, plain, stays_inside
from storage.hashing import verified
from storage.objects import CHUNK, ObjectStore
from storage.packs import joined
from storage.parallel import each
from storage.paths import Paths
from storage.retries import Retries, never
from storage.zipped import Sums, ZipWriter, inflated

_GAP = 1024 * 1024
_RUN = 32 * 1024 * 1024


def read_entry(
    store: ObjectStore, task: str, attempt: int, entry: ManifestEntry, start: int = 0, length: int | None = None
) -> Iterator[bytes]:
    """Give the bytes of one file, or of that part of the range which it has; a link has none.

    Whole files are checked against their hash; the error for a damaged one comes at the end.

    Raises:
        OutputDamaged: the stored bytes are not what the manifest says.
    """
    if entry.object is None:
        return
    key = Paths.below(task, attempt, entry.object)
    stop = entry.size if length is None else min(entry.size, start + length)
    if entry.codec is Codec.STORED and (start > 0 or stop < entry.size):
        if start < stop:
            yield from store.stream(key, entry.offset + start, stop - start)
        return
    body = _body(entry, _known(store, key, entry.offset, entry.length))
    position = 0
    for piece in body:
        yield_from, yield_to = max(start - position, 0), max(stop - position, 0)
        position += len(piece)
        if part := piece[yield_from:yield_to]:
            yield part
        if position >= stop and stop < entry.size:
            return


def zip_entries(store: ObjectStore, task: str, attempt: int, entries: Iterable[ManifestEntry]) -> Iterator[bytes]:
    """Give the pieces of a zip file of the entries, in bounded memory; links that stay inside are kept as links.

    Raises:
        OutputDamaged: stored bytes are not what the manifest says; the zip then ends without its directory.
    """
    yield from joined(_zip_pieces(store, task, attempt, list(entries)))


def restore(
    store: ObjectStore,
    task: str,
    attempt: int,
    entries: Iterable[ManifestEntry],
    folder: Path,
    *,
    stopped: Callable[[], bool] = never,
    retries: Retries | None = None,
) -> list[str]:
    """Write files into a folder, with modes and times, and links; return the paths of links that were not made.

    Files that exist are replaced, each in one step and only by verified bytes. Nothing is written outside the folder:
    links in it are not followed, and links that would leave it are not made.

    Raises:
        UnsafePath: an entry's path leaves the folder; nothing was written then.
        OutputDamaged: stored bytes are not what the manifest says.
        StorageUnavailable: the storage, or the folder's disk, failed.
        Stopped: the work was told to stop; the folder is then incomplete.
    """
    rows = list(entries)
    for row in rows:
        plain(row.path)
    target, patience = Folder(folder), retries or Retries()
    folder.mkdir(parents=True, exist_ok=True)

    def write(run: _Run) -> None:
        patience.run(lambda: _write_run(store, task, attempt, run, target), stopped)

    for _ in each(write, _runs(rows), threads=4, stopped=stopped):
        pass
    with _told(folder):
        return [row.path for row in rows if row.link is not None and not target.link(row.path, row.link)]


@dataclass(frozen=True)
class _Run:
    """Entries that lie close together in one object, to be fetched by one request."""

    object: str | None
    entries: tuple[ManifestEntry, ...]

    @property
    def start(self) -> int:
        return self.entries[0].offset

    @property
    def stop(self) -> int:
        return max(entry.offset + entry.length for entry in self.entries)


def _runs(rows: Iterable[ManifestEntry]) -> Iterator[_Run]:
    """Give the runs of the entries that are files, in the order of objects and offsets."""
    files = sorted((row for row in rows if row.link is None), key=lambda row: (row.object or "", row.offset))
    run: list[ManifestEntry] = []
    stop = 0
    for row in files:
        near = run and row.object == run[0].object and stop <= row.offset <= stop + _GAP
        if run and not (near and row.offset + row.length - run[0].offset <= _RUN):
            yield _Run(run[0].object, tuple(run))
            run = []
        run.append(row)
        stop = row.offset + row.length
    if run:
        yield _Run(run[0].object, tuple(run))


def _bodies(store: ObjectStore, task: str, attempt: int, run: _Run) -> Iterator[tuple[ManifestEntry, Iterator[bytes]]]:
    """Give each entry with its raw bytes, which must be taken before the next one."""
    if run.object is None:
        for entry in run.entries:
            yield entry, iter(())
        return
    key = Paths.below(task, attempt, run.object)
    stream = _Slices(_known(store, key, run.start, run.stop - run.start))
    position = run.start
    for entry in run.entries:
        for _ in stream.take(entry.offset - position):
            pass
        yield entry, stream.take(entry.length)
        position = entry.offset + entry.length


class _Slices:
    """Consecutive slices of a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def take(self, length: int) -> Iterator[bytes]:
        """Give the next `length` bytes; fewer where the stream ends."""
        while length > 0:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                return
            part, self._rest = piece[:length], piece[length:]
            length -= len(part)
            yield part


def _known(store: ObjectStore, key: str, start: int, length: int) -> Iterator[bytes]:
    if length == 0:
        return
    try:
        yield from store.stream(key, start, length)
    except ObjectNotFound as error:
        raise OutputDamaged(f"the manifest names the object {key}, which is gone.") from error


def _body(entry: ManifestEntry, raw: Iterator[bytes]) -> Iterator[bytes]:
    """Give the file's own bytes, checked."""
    damaged = OutputDamaged(f"the stored bytes of {entry.path!r} are not what the manifest says.")
    pieces = inflated(raw, CHUNK) if entry.codec is Codec.DEFLATE else raw
    try:
        yield from verified(pieces, entry.sha256 or "", entry.size, damaged)
    except zlib.error as error:
        raise damaged from error


def _write_run(store: ObjectStore, task: str, attempt: int, run: _Run, target: Folder) -> None:
    for entry, raw in _bodies(store, task, attempt, run):
        with _told(target.root):
            target.write(entry.path, _body(entry, raw), mode=entry.mode, mtime_ns=entry.mtime_ns)


def _zip_pieces(store: ObjectStore, task: str, attempt: int, rows: list[ManifestEntry]) -> Iterator[bytes]:
    writer = ZipWriter()
    for run in _runs(rows):
        for entry, raw in _bodies(store, task, attempt, run):
            sums, mtime = Sums(), entry.mtime_ns / 1e9
            pieces = _passed(entry, raw, sums)
            mode = stat.S_IFREG | entry.mode
            yield from writer.add(
                entry.path, pieces, sums, codec=entry.codec, mode=mode, mtime=mtime, expected=entry.size
            )
    for row in rows:
        if row.link is not None and stays_inside(row.path, row.link):
            sums = Sums()
            target, mode = sums.over([row.link.encode()]), stat.S_IFLNK | 0o777
            yield from writer.add(
                row.path, target, sums, codec=Codec.STORED, mode=mode, mtime=row.mtime_ns / 1e9, expected=0
            )
    yield from writer.close()


def _passed(entry: ManifestEntry, raw: Iterator[bytes], sums: Sums) -> Iterator[bytes]:
    """Give the raw bytes as they are, while their content is checked and summed beside them."""
    passing: deque[bytes] = deque()

    def seen() -> Iterator[bytes]:
        for piece in raw:
            passing.append(piece)
            yield piece

    for _ in sums.over(_body(entry, seen())):
        while passing:
            yield passing.popleft()
    yield from passing


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell what went wrong with the folder in the storage's words."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"{folder} could not be written: {error.strerror}.") from error
