"""Input files that a machine keeps by their content, so that the next task that has them need not fetch them.

An entry takes its name only when it is whole and its hash is right. Whoever writes or reads one holds a lock on it,
which the system drops when that process dies, however it dies: what nobody holds may be removed at any moment.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from storage.folder import write_all
from storage.locks import open_locked
from storage.retries import check_stopped, never

log = logging.getLogger(__name__)

SHARE = 4
"""At most this part of the disk is taken: a quarter."""
FLOOR = 10
"""This part of the disk is left free, a tenth, which tasks are not promised either."""
MOST = 20_000
"""So many entries are kept at most."""
STILL_SECONDS = 60.0
"""How long somebody else who fetches a file may bring no byte of it before it is waited for no more."""
_UNSEEN = 64
"""What others add is looked at whenever this part of what may be kept has been added here."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_PART = ".part"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Disk(NamedTuple):
    """The bytes of a file system."""

    total: int
    used: int
    free: int


def _boot() -> str:
    """Return the name of this run of the machine since it was switched on."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "unknown"


def _disk_of(folder: Path) -> Disk:
    return Disk(*shutil.disk_usage(folder))


class _Entry(NamedTuple):
    used_at: int
    size: int
    """Bytes on the disk."""
    path: Path


@dataclass(frozen=True)
class Lent:
    """A kept file, which stays as it is until it is closed."""

    descriptor: int
    was_fetched: bool
    """Whether it came from the storage just now."""

    def close(self) -> None:
        """Give it back."""
        os.close(self.descriptor)


class KeptInputs:
    """The files that are kept below `folder`: at most `limit` bytes, a quarter of the disk, and none of its last tenth.

    The least recently used go first, and never one that is lent. Safe to use from several threads and processes. What
    a crash of the whole machine may have left half written is not used: each boot has a folder of its own, and what
    is in those of earlier ones only waits to go.
    """

    def __init__(self, folder: Path, limit: int, *, disk: Callable[[Path], Disk] = _disk_of) -> None:
        self._limit, self._disk = limit, disk
        self._root, self._folder = folder, folder / _boot()
        self._lock = threading.Lock()
        self._unseen: tuple[int, int] | None = None
        """Bytes and files that were added here since all were last looked at; None before that."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            log.warning("inputs cannot be kept in %s: %s", folder, error)

    def borrow(
        self, sha256: str, size: int, fetch: Callable[[], Iterable[bytes]], stopped: Callable[[], bool] = never
    ) -> Lent | None:
        """Return the file of that content, fetched where it is not here; None where it cannot be kept.

        Of several who want it at once, one fetches it and the others wait for as long as it grows. `fetch` gives pieces
        that were checked: an error of theirs passes through and leaves nothing behind.

        Raises:
            Stopped: the work was told to stop.
        """
        try:
            return self._borrow(self._folder / f"{sha256}-{size}", size, fetch, stopped)
        except OSError as error:
            log.warning("input %s is not kept on this machine: %s", sha256, error)
            return None

    def _borrow(
        self, path: Path, size: int, fetch: Callable[[], Iterable[bytes]], stopped: Callable[[], bool]
    ) -> Lent | None:
        part = path.with_name(path.name + _PART)
        pause, grown, grown_at = _FIRST_PAUSE, -1, time.monotonic()
        while True:
            check_stopped(stopped)
            if (kept := _opened(path, size)) is not None:
                return Lent(kept, was_fetched=False)
            if (claimed := _claim(part)) is not None:
                # Somebody may have completed it since we looked.
                if not path.exists():
                    return self._filled(claimed, part, path, size, fetch)
                part.unlink()
                os.close(claimed)
            if (now := _size_of(part)) != grown:
                grown, grown_at = now, time.monotonic()
            if time.monotonic() - grown_at >= STILL_SECONDS:
                return None
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _filled(
        self, claimed: int, part: Path, path: Path, size: int, fetch: Callable[[], Iterable[bytes]]
    ) -> Lent | None:
        """Return the file that is fetched into the part that we hold."""
        try:
            if not self._has_room(size):
                part.unlink(missing_ok=True)
                os.close(claimed)
                return None
            # What a process that was killed had written.
            os.ftruncate(claimed, 0)
            for piece in fetch():
                write_all(claimed, piece)
            os.fchmod(claimed, 0o400)
            part.rename(path)
            fcntl.flock(claimed, fcntl.LOCK_SH)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            os.close(claimed)
            raise
        return Lent(claimed, was_fetched=True)

    def _has_room(self, size: int) -> bool:
        """Say whether so many bytes may be added; what was not used for longest goes for them."""
        with self._lock:
            disk = self._disk(self._folder)
            most = min(self._limit, disk.total // SHARE)
            if size > most:
                return False
            lacking = disk.total // FLOOR + size - disk.free
            added, files = self._unseen or (0, 0)
            if self._unseen is not None and lacking <= 0 and (added + size) * _UNSEEN < most and files * _UNSEEN < MOST:
                self._unseen = added + size, files + 1
                return True
            self._unseen = size, 1
            # The one that we are about to write is among them.
            entries = sorted(self._entries())
            lacking = max(lacking, sum(entry.size for entry in entries) + size - most)
            return self._remove(entries, lacking, len(entries) - MOST) >= lacking

    def give_way(self) -> None:
        """Remove files until a tenth of the disk is free again, or none is left; those that are lent stay."""
        try:
            disk = self._disk(self._folder)
            if (lacking := disk.total // FLOOR - disk.free) > 0:
                self._remove(sorted(self._entries()), lacking)
        except OSError as error:
            log.warning("what is kept in %s cannot be removed: %s", self._folder, error)

    def clear(self) -> bool:
        """Remove all files but those that are lent; says whether that gave any room."""
        entries = list(self._entries())
        return self._remove(entries, sum(entry.size for entry in entries)) > 0

    def _entries(self) -> Iterator[_Entry]:
        return _entries(self._root)

    @staticmethod
    def _remove(entries: Iterable[_Entry], lacking: int, files: int = 0) -> int:
        """Remove entries in their order until so many bytes and files are gone; returns the bytes."""
        removed = 0
        for entry in entries:
            if removed >= lacking and files <= 0:
                break
            if _removed(entry.path):
                removed += entry.size
                files -= 1
        return removed


def kept_bytes(folder: Path) -> int:
    """Return how much of the disk the files below `folder` take, which give way to tasks."""
    with suppress(OSError):
        return sum(entry.size for entry in _entries(folder))
    return 0


def _entries(folder: Path) -> Iterator[_Entry]:
    for boot in folder.iterdir():
        with os.scandir(boot) as scan:
            for item in scan:
                with suppress(FileNotFoundError):
                    found = item.stat(follow_symlinks=False)
                    yield _Entry(found.st_mtime_ns, 512 * found.st_blocks, Path(item.path))


def _opened(path: Path, size: int) -> int | None:
    """Return an entry that is whole, held so that nobody removes it; None where there is none."""
    try:
        handle = open_locked(path, os.O_RDONLY | os.O_NOFOLLOW, fcntl.LOCK_SH)
    except (BlockingIOError, FileNotFoundError):
        # Who holds it otherwise is about to remove it, or has only just completed it.
        return None
    try:
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode) and found.st_nlink and found.st_size == size:
            os.utime(handle)
            return handle
        if found.st_nlink:
            log.warning("%s has %s bytes and not %s: it is fetched again", path, found.st_size, size)
            path.unlink(missing_ok=True)
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _claim(part: Path) -> int | None:
    """Return the unfinished file, held by us alone; None where somebody else has it, or has just finished it."""
    try:
        handle = open_locked(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, fcntl.LOCK_EX)
    except BlockingIOError:
        return None
    try:
        if os.fstat(handle).st_ino == part.lstat().st_ino:
            return handle
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _removed(path: Path) -> bool:
    """Remove an entry that nobody holds; says whether it is gone."""
    try:
        handle = open_locked(path, os.O_RDONLY | os.O_NOFOLLOW, fcntl.LOCK_EX)
    except (BlockingIOError, FileNotFoundError):
        return False
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    finally:
        os.close(handle)
    return True


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
