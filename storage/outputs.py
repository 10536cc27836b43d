"""The files that a simulation made, on their way into the storage."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from simyard.files import Codec, EntryKind, ManifestEntry
from storage.errors import UnsafePath
from storage.folder import Folder, Found
from storage.hashing import Hashed
from storage.names import readable, readable_path
from storage.objects import ObjectStore
from storage.packs import Pack, Reading, Source, joined
from storage.paths import Paths
from storage.retries import Retries, check_stopped, never
from storage.stamps import Stamps, take_stamps

__all__ = ["OWN_FOLDER", "Stamps", "store_outputs", "take_stamps"]

OWN_FOLDER = ".simyard"
"""The folder that holds logs in a manifest; nothing that a simulation writes there is kept."""

NOTES = f"{OWN_FOLDER}/not-stored.txt"
"""The log that names files that could not be stored, and why."""

_BIG = 64 * 1024 * 1024
_PACK = 256 * 1024 * 1024
_PACK_FILES = 20_000
_BIG_LOG = 1024 * 1024
_MAX_NOTES = 1000

Progress = Callable[[int, int], None]
"""Takes how many files and how many of their bytes are stored so far."""


def store_outputs(
    store: ObjectStore,
    task: str,
    attempt: int,
    folder: Path,
    before: Stamps | None,
    *,
    logs: Mapping[str, Path],
    snapshot: int | None = None,
    stopped: Callable[[], bool] = never,
    progress: Progress | None = None,
    retries: Retries | None = None,
) -> list[ManifestEntry]:
    """Store what is new or changed in a folder, and the logs, and return the rows of the manifest to be.

    Small files go into packs (plain zips), big ones become objects of their own. Links are kept as rows and never
    followed. A row's size and hash are those of the bytes that were stored, also when the file changed meanwhile.
    What could not be stored (a socket, an unreadable file) is named in the log `.simyard/not-stored.txt`.
    Objects of an earlier try of the same attempt are overwritten. The manifest itself is not written.
    With `snapshot` they become objects of that snapshot, and not of the result.

    Raises:
        StorageUnavailable: the storage failed more often than `retries` allows.
        Stopped: the work was told to stop.
    """
    work = _Work(store, task, attempt, Paths.snapshot_name(snapshot), stopped, progress, retries or Retries())
    pack: list[Source] = []
    size = 0
    for source in work.sources(Folder(folder), before, logs):
        if source.size > (_BIG if source.kind is EntryKind.OUTPUT else _BIG_LOG):
            work.store_big(source)
            continue
        pack.append(source)
        size += source.size
        if size >= _PACK or len(pack) >= _PACK_FILES:
            work.store_pack(pack)
            pack, size = [], 0
    if pack or work.notes:
        work.store_pack(pack, last=True)
    return work.entries


class _Work:
    """The storing of one attempt's outputs."""

    def __init__(
        self,
        store: ObjectStore,
        task: str,
        attempt: int,
        below: str,
        stopped: Callable[[], bool],
        progress: Progress | None,
        retries: Retries,
    ) -> None:
        self._store, self._task, self._attempt, self._below = store, task, attempt, below
        self._stopped, self._progress, self._retries = stopped, progress, retries
        self._packs = self._bytes = 0
        self.entries: list[ManifestEntry] = []
        self.notes: dict[str, str] = {}
        self._more_notes = False

    def sources(self, folder: Folder, before: Stamps | None, logs: Mapping[str, Path]) -> Iterator[Source]:
        """Give the files to store; links become entries on the way, and everything else a note."""
        for found in folder.walk():
            check_stopped(self._stopped)
            if before is not None and before.has(found):
                continue
            name = readable_path(folder, found.path)
            if found.stat is None:
                self._note(name or ".", f"it could not be read: {found.trouble}")
            elif found.path.split("/")[0] == OWN_FOLDER:
                self._note(name, f"the folder {OWN_FOLDER} is Simyard's own")
            elif stat.S_ISLNK(found.stat.st_mode):
                self._keep_link(folder, found, found.stat, name)
            elif stat.S_ISREG(found.stat.st_mode):
                yield Source(folder, found.path, name, EntryKind.OUTPUT, found.stat.st_size)
            else:
                self._note(name, "it is a device, a socket or a named pipe")
        for name, file in sorted(logs.items()):
            with suppress(FileNotFoundError):
                yield Source(Folder(file.parent), file.name, f"{OWN_FOLDER}/{name}", EntryKind.LOG, file.stat().st_size)

    def _keep_link(self, folder: Folder, found: Found, info: os.stat_result, name: str) -> None:
        try:
            target = folder.read_link(found.path)
        except (OSError, UnsafePath) as error:
            self._note(name, f"it changed while it was stored: {error}")
            return
        mode, link = stat.S_IMODE(info.st_mode), readable(target)
        self._done(ManifestEntry(path=name, size=0, mtime_ns=info.st_mtime_ns, mode=mode, link=link))

    def store_big(self, source: Source) -> None:
        """Store a file as an object of its own."""
        name = Paths.file_name(source.name)
        if source.kind is EntryKind.LOG:
            name = Paths.log_name(source.name.split("/")[-1])
        name = self._below + name
        key = Paths.below(self._task, self._attempt, name)

        def store() -> ManifestEntry | None:
            # Everything is made anew on each try: a body that was sent once is spent.
            with self._opened(source) as reading:
                if reading is None:
                    return None
                body = Hashed(reading.pieces(self._stopped))
                self._store.put(key, body, size=source.size)
            return source.entry(reading, body, object=name, offset=0, length=body.size, codec=Codec.STORED)

        entry = self._retries.run(store, self._stopped)
        if entry is not None:
            self._done(entry)

    def store_pack(self, sources: list[Source], *, last: bool = False) -> None:
        """Store files together as one zip; the last one takes the notes along."""
        name = self._below + Paths.pack_name(self._packs)
        key = Paths.below(self._task, self._attempt, name)

        def store() -> list[ManifestEntry]:
            pack = Pack(name)
            self._store.put(key, joined(self._pack_pieces(pack, sources, last=last)))
            return pack.entries

        for entry in self._retries.run(store, self._stopped):
            self._done(entry)
        self._packs += 1

    def _pack_pieces(self, pack: Pack, sources: list[Source], *, last: bool) -> Iterator[bytes]:
        for source in sources:
            check_stopped(self._stopped)
            with self._opened(source) as reading:
                if reading is not None:
                    yield from pack.add(source, reading, self._stopped)
        if last and self.notes:
            yield from pack.add_text(NOTES, self._notes_text())
        yield from pack.close()

    @contextmanager
    def _opened(self, source: Source) -> Iterator[Reading | None]:
        try:
            descriptor = source.folder.open(source.path)
        except (OSError, UnsafePath) as error:
            why = error.strerror if isinstance(error, OSError) else None
            self._note(source.name, f"it could not be read: {why or error}")
            yield None
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            reading = Reading(file)
            yield reading
            if trouble := reading.trouble():
                self._note(source.name, trouble)

    def _note(self, name: str, why: str) -> None:
        if len(self.notes) < _MAX_NOTES or name in self.notes:
            self.notes[name] = why
        else:
            self._more_notes = True

    def _notes_text(self) -> bytes:
        lines = [f"{name}: {why}\n" for name, why in self.notes.items()]
        return "".join([*lines, "and more\n"] if self._more_notes else lines).encode()

    def _done(self, entry: ManifestEntry) -> None:
        self.entries.append(entry)
        self._bytes += entry.size
        if self._progress is not None:
            self._progress(len(self.entries), self._bytes)
