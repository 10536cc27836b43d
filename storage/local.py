"""Objects as files of a local folder: the embedded default."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from storage.errors import AlreadyExists, InvalidKey, ObjectNotFound, StorageUnavailable
from storage.folder import write_all
from storage.objects import CHUNK, Body, ObjectInfo, check_range, pieces_of
from storage.paths import check_key

# Unfinished writes; a key cannot begin with this part, and no listing enters it.
_UNFINISHED = ".unfinished"
# Seconds after which nobody goes on with an unfinished write.
_ABANDONED = 86_400


class LocalStore:
    """Every object is the file of its key below `root`.

    A write goes to a file of its own first, is flushed to the disk, and then takes its name in one step; so a reader, a
    second writer or a crash never meets half an object. A key and the same key with more parts cannot both be objects.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.uri = self.root.as_uri()
        self._unfinished = self.root / _UNFINISHED
        self._sweep()

    def _sweep(self) -> None:
        """Remove what killed processes left of their writes."""
        with suppress(OSError):
            for left in self._unfinished.iterdir():
                with suppress(FileNotFoundError):
                    if left.stat().st_mtime < time.time() - _ABANDONED:
                        left.unlink()

    def put(self, key: str, data: Body, *, create: bool = False, size: int | None = None) -> None:
        """Store an object; see `ObjectStore.put`."""
        target = self._file(key)
        with _told(key):
            temporary, handle = self._begin()
        try:
            try:
                for piece in pieces_of(data):
                    with _told(key):
                        write_all(handle, piece)
                with _told(key):
                    os.fsync(handle)
            finally:
                os.close(handle)
            with _told(key):
                self._take_name(temporary, target, key, create=create)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _begin(self) -> tuple[Path, int]:
        """Return the file of an unfinished write, and a descriptor for writing it."""
        file = self._unfinished / secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return file, os.open(file, flags, 0o666)
        except FileNotFoundError:
            _make_folder(self._unfinished)
            return file, os.open(file, flags, 0o666)

    def _take_name(self, temporary: Path, target: Path, key: str, *, create: bool) -> None:
        while True:
            try:
                if create:
                    # A link is the one step that both fails on an existing name and never shows half a file.
                    os.link(temporary, target)
                else:
                    temporary.replace(target)
            except FileExistsError:
                raise AlreadyExists(f"{key} is already there.") from None
            except FileNotFoundError:
                # It is the first in its folder, or a delete beside us has just removed that one when it was empty.
                if not temporary.exists():
                    raise
                _make_folder(target.parent)
                continue
            if create:
                temporary.unlink()
            _flush_folder(target.parent)
            return

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see `ObjectStore.get`."""
        return b"".join(self.stream(key, start, length, chunk=16 * CHUNK))

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = CHUNK) -> Iterator[bytes]:
        """Give bytes of an object in pieces; see `ObjectStore.stream`."""
        check_range(start, length)
        try:
            file = _open(self._file(key))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectNotFound(f"There is no object {key}.") from error
        except OSError as error:
            raise _failed(key, error) from error
        return self._read(key, file, start, length, chunk)

    @staticmethod
    def _read(key: str, descriptor: int, start: int, length: int | None, chunk: int) -> Iterator[bytes]:
        with _told(key), os.fdopen(descriptor, "rb", buffering=0) as file:
            file.seek(start)
            while length is None or length > 0:
                piece = file.read(chunk if length is None else min(chunk, length))
                if not piece:
                    return
                if length is not None:
                    length -= len(piece)
                yield piece

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object."""
        try:
            found = self._file(key).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(key, error) from error
        return _info(key, found) if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Give the objects below a prefix; see `ObjectStore.list`."""
        todo = [(self._file(prefix) if prefix else self.root, prefix)]
        while todo:
            folder, key = todo.pop()
            try:
                with os.scandir(folder) as scan:
                    items = sorted(scan, key=lambda item: item.name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for item in items:
                below = f"{key}/{item.name}" if key else item.name
                if item.is_dir(follow_symlinks=False):
                    if below != _UNFINISHED:
                        todo.append((folder / item.name, below))
                elif item.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        yield _info(below, item.stat(follow_symlinks=False))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects and the folders that become empty; absent ones are fine."""
        for key in keys:
            file = self._file(key)
            try:
                file.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue
            except OSError as error:
                raise _failed(key, error) from error
            for folder in file.parents:
                if folder == self.root or not _remove_empty(folder):
                    break

    def sign_get(self, key: str, seconds: int) -> None:
        """Return None: a folder cannot sign; the API signs URLs of its own."""

    def multiparts(self) -> None:
        """Return None: a folder cannot sign; the API takes the parts itself."""

    def _file(self, key: str) -> Path:
        parts = check_key(key).split("/")
        if parts[0] == _UNFINISHED:
            raise InvalidKey(f"the key {key!r} begins with {_UNFINISHED}, which holds unfinished writes.")
        return self.root.joinpath(*parts)


def _open(file: Path) -> int:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a file", str(file))
    return descriptor


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key=key, size=found.st_size, modified=datetime.fromtimestamp(found.st_mtime, UTC))


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each of them durable in its own parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(folder))
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Tell what went wrong with a write in the storage's words."""
    try:
        yield
    except (NotADirectoryError, IsADirectoryError) as error:
        raise InvalidKey(f"the key {key} and another one with fewer or more parts cannot both be files.") from error
    except OSError as error:
        raise _failed(key, error) from error


def _failed(key: str, error: OSError) -> StorageUnavailable:
    fix = "Make room on its disk." if error.errno in {errno.ENOSPC, errno.EDQUOT} else None
    return StorageUnavailable(f"the storage folder failed at {key}: {error.strerror}.", fix=fix)
