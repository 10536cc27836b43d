"""A folder that nothing leaves: files below it are reached without following a link."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from storage.errors import UnsafePath

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PATH = 4096
_MAX_DEPTH = 500
_COPIED = 64 * 1024 * 1024
_NOT_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a kernel says that cannot copy between these two files by itself."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a walk met: its path below the folder, as the file system names it, and its `lstat`."""

    path: str
    """Bytes that are not UTF-8 stand as lone surrogates, as everywhere in `os`."""
    stat: os.stat_result | None
    """None when it could not be looked at."""
    trouble: str | None = None
    """Why a folder or file could not be entered or looked at."""


class Folder:
    """A folder whose files are reached part by part from its own descriptor, so that no link leads out of it.

    Methods raise `OSError` as the file system does, and `UnsafePath` for a path that is not plain and relative.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def walk(self) -> Iterator[Found]:
        """Give everything below the folder but folders, in a fixed order; what vanishes meanwhile is left out."""
        todo = [""]
        while todo:
            folder = todo.pop()
            try:
                with self._inside(folder.split("/") if folder else []) as here, os.scandir(here) as scan:
                    items = sorted(scan, key=lambda item: item.name)
                    below = [(f"{folder}/{item.name}" if folder else item.name, _looked_at(item)) for item in items]
            except FileNotFoundError:
                continue
            except OSError as error:
                yield Found(folder, None, error.strerror or str(error))
                continue
            folders = []
            for path, found in below:
                if isinstance(found, OSError):
                    yield Found(path, None, found.strerror)
                elif found is not None and stat.S_ISDIR(found.st_mode):
                    if path.count("/") < _MAX_DEPTH:
                        folders.append(path)
                    else:
                        yield Found(path, None, f"it is nested more than {_MAX_DEPTH} folders deep")
                elif found is not None:
                    yield Found(path, found)
            todo.extend(reversed(folders))

    def open(self, path: str) -> int:
        """Return a descriptor for reading a regular file.

        Raises:
            OSError: it is not there, is no regular file, or is reached through a link.
        """
        *folders, name = plain(path)
        with self._inside(folders) as here:
            # Without O_NONBLOCK a named pipe in the file's place would hold us for ever.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(f"{path!r} is not a regular file")
        return descriptor

    def write(self, path: str, pieces: Iterable[bytes], *, mode: int, mtime_ns: int | None = None) -> None:
        """Write a file, making its folders; it takes its name only when it is whole, replacing what was there.

        An error that the pieces raise leaves nothing behind.
        """
        with self._made(path) as file:
            for piece in pieces:
                write_all(file, piece)
            os.fchmod(file, mode & 0o777)
            if mtime_ns is not None:
                os.utime(file, ns=(mtime_ns, mtime_ns))

    def copy(self, path: str, source: int, *, mode: int, check: Callable[[], None]) -> None:
        """Write a file that is a copy of an open one, as `write` does; the file system shares their blocks if it can.

        `check` is called again and again; what it raises leaves nothing behind.
        """
        with self._made(path) as file:
            _copy_all(source, file, check)
            os.fchmod(file, mode & 0o777)

    @contextmanager
    def _made(self, path: str) -> Iterator[int]:
        """Give a file to fill, which takes its name at the end; an error leaves nothing behind."""
        *folders, name = plain(path)
        with self._inside(folders, make=True) as here:
            temporary = f".{secrets.token_hex(12)}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                file = os.open(temporary, flags, 0o600, dir_fd=here)
                try:
                    yield file
                finally:
                    os.close(file)
                os.replace(temporary, name, src_dir_fd=here, dst_dir_fd=here)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=here)
                raise

    def link(self, path: str, target: str) -> bool:
        """Make a symbolic link in place of what was there; return False, and make none, when it would leave."""
        *folders, name = plain(path)
        if not stays_inside(path, target):
            return False
        with self._inside(folders, make=True) as here:
            temporary = f".{secrets.token_hex(12)}.part"
            os.symlink(target, temporary, dir_fd=here)
            try:
                os.replace(temporary, name, src_dir_fd=here, dst_dir_fd=here)
            except BaseException:
                os.unlink(temporary, dir_fd=here)
                raise
        return True

    def has(self, path: str) -> bool:
        """Say whether there is anything at a path."""
        *folders, name = plain(path)
        try:
            with self._inside(folders) as here:
                os.lstat(name, dir_fd=here)
        except OSError:
            return False
        return True

    def read_link(self, path: str) -> str:
        """Return a symbolic link's target, as the file system has it."""
        *folders, name = plain(path)
        with self._inside(folders) as here:
            return os.readlink(name, dir_fd=here)

    @contextmanager
    def _inside(self, parts: list[str], *, make: bool = False) -> Iterator[int]:
        with ExitStack() as stack:
            # The folder itself may be named through a link; only what is below it is not trusted.
            here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in parts:
                stack.callback(os.close, here)
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=here)
                here = os.open(part, _FOLDER, dir_fd=here)
                stack.pop_all().close()
            stack.callback(os.close, here)
            yield here


def plain(path: str) -> list[str]:
    """Return the parts of a plain relative path.

    Raises:
        UnsafePath: the path is empty, too long or absolute, or has an empty or dot part or a NUL.
    """
    parts = path.split("/")
    if "\0" in path or len(os.fsencode(path)) > _MAX_PATH or any(part in {"", ".", ".."} for part in parts):
        raise UnsafePath(f"{path[:200]!r} is not a plain relative path.")
    return parts


def stays_inside(path: str, target: str) -> bool:
    """Say whether a link at `path` with this target stays inside the folder, whatever other such links there are.

    Going up is fine only at the target's beginning: after a part that may itself be a link, `..` could be anywhere.
    """
    parts = target.split("/")
    up = next((i for i, part in enumerate(parts) if part not in {"..", "."}), len(parts))
    return (
        target != ""
        and not target.startswith("/")
        and parts[:up].count("..") <= path.count("/")
        and ".." not in parts[up:]
        and "\0" not in target
    )


def _looked_at(item: os.DirEntry[str]) -> os.stat_result | OSError | None:
    try:
        return item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error


def write_all(descriptor: int, piece: bytes) -> None:
    """Write all of a piece, of which the system may take a part at a time."""
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy_all(source: int, target: int, check: Callable[[], None]) -> None:
    offset = 0
    while True:
        check()
        try:
            count = os.copy_file_range(source, target, _COPIED, offset_src=offset)
        except OSError as error:
            if error.errno not in _NOT_IN_KERNEL:
                raise
            break
        if count == 0:
            return
        offset += count
    while piece := os.pread(source, 1024 * 1024, offset):
        check()
        write_all(target, piece)
        offset += len(piece)
