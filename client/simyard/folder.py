"""The input folder: which files it holds, and what they hash to; anything that is not a plain file is refused."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from simyard.errors import InvalidInput, UnreadableInput
from simyard.files import MAX_FILES, InputFile, check_relative
from simyard.progress import Meter, Progress, Stage

CHUNK = 1024 * 1024
_FOLDERS = MAX_FILES
_THREADS = min(8, (os.cpu_count() or 2) + 1)
_STILL = "Submit when nothing writes to the folder any more."
_SPECIAL = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A file of the folder as it was when the folder was looked at."""

    path: str
    """Relative to the folder, with forward slashes."""
    source: Path
    """Where its bytes are."""
    size: int
    mtime_ns: int
    inode: int
    mode: int

    def is_like(self, found: os.stat_result) -> bool:
        """Say whether the file on disk is still the one that was looked at."""
        return (found.st_size, found.st_mtime_ns, found.st_ino) == (self.size, self.mtime_ns, self.inode)

    @property
    def changed(self) -> UnreadableInput:
        """The refusal of a file that does not keep still."""
        return UnreadableInput(f"{show(self.path)} changed while it was read.", field="inputs", fix=_STILL)


@dataclass(frozen=True, kw_only=True)
class HashedFile:
    """A file of the folder with the hash of its bytes."""

    file: LocalFile
    sha256: str

    @property
    def input(self) -> InputFile:
        """The file as a task names it."""
        return InputFile(path=self.file.path, sha256=self.sha256, size=self.file.size, mode=self.file.mode)


def scan(folder: str | os.PathLike[str]) -> tuple[LocalFile, ...]:
    """Return every file below a folder, in the order of their paths.

    Symbolic links that stay inside the folder are taken as what they lead to.

    Raises:
        InvalidInput: there is no such folder, it holds no file or too many, or it holds something that cannot be sent:
            a link that leaves it or goes in circles, a device, a socket or a pipe, an unreadable file, a bad name.
    """
    top = Path(folder)
    if not top.is_dir():
        what = "is not a folder" if top.exists() else "does not exist"
        raise InvalidInput(f"The folder {show(top)} {what}.", field="inputs", fix="Give the folder of the input files.")
    files = sorted(_walk(top.resolve()), key=lambda file: file.path)
    if not files:
        raise InvalidInput(
            f"The folder {show(top)} holds no files.", field="inputs", fix="Give the folder of the input files."
        )
    return tuple(files)


def scan_file(path: Path) -> LocalFile:
    """Return one file that is sent by itself.

    Raises:
        UnreadableInput: there is no such file, or it is none.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadableInput(f"{show(path)} cannot be read: {error.strerror}.", field="table") from error
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableInput(f"{show(path)} is no file.", field="table", fix="Give the path of a file.")
    return _local(path.name, path, status)


def _walk(top: Path) -> Iterator[LocalFile]:
    # Each folder with the real folders above it, which a link may not lead back to.
    open_folders: list[tuple[str, Path, frozenset[Path]]] = [("", top, frozenset({top}))]
    count = folders = 0
    while open_folders:
        prefix, folder, above = open_folders.pop()
        folders += 1
        if folders > _FOLDERS:
            raise _too_many("folders")
        try:
            with os.scandir(folder) as found:
                names = sorted(entry.name for entry in found)
        except OSError as error:
            raise _unreadable(prefix.rstrip("/") or str(top), error) from error
        for name in names:
            path = _checked(prefix + name)
            real = _real(top, folder / name, path)
            status = _status(real, path)
            if stat.S_ISDIR(status.st_mode):
                if real in above:
                    raise _refuse(path, "is a symbolic link that goes in a circle", "Remove the link.")
                open_folders.append((path + "/", real, above | {real}))
            elif stat.S_ISREG(status.st_mode):
                count += 1
                if count > MAX_FILES:
                    raise _too_many("files")
                yield _local(path, real, status)
            else:
                what = next((text for test, text in _SPECIAL.items() if test(status.st_mode)), "not a plain file")
                raise _refuse(path, f"is {what}", "Remove it from the folder; only files can be sent.")


def _checked(path: str) -> str:
    try:
        return check_relative(path)
    except ValueError as error:
        raise InvalidInput(f"{show(path)} cannot be sent: {error}.", field="inputs") from error


def _real(top: Path, place: Path, path: str) -> Path:
    """Return where a name leads: itself, or the target of a link that stays in the folder."""
    if not place.is_symlink():
        return place
    try:
        real = place.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before Python 3.13
        if isinstance(error, FileNotFoundError):
            raise _refuse(path, "is a symbolic link to nothing", "Remove the link or restore its target.") from error
        if isinstance(error, PermissionError):
            raise _unreadable(path, error) from error
        raise _refuse(path, "is a symbolic link that goes in a circle", "Remove the link.") from error
    if not real.is_relative_to(top):
        raise _refuse(
            path, f"is a symbolic link that leaves the folder, to {show(real)}", "Copy its target into the folder."
        )
    if real.is_relative_to(top / ".simyard"):
        raise _refuse(path, "is a symbolic link to Simyard's own folder", "Remove the link.")
    return real


def _status(real: Path, path: str) -> os.stat_result:
    try:
        return real.lstat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _local(path: str, source: Path, status: os.stat_result) -> LocalFile:
    return LocalFile(
        path=path,
        source=source,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        mode=status.st_mode & 0o777,
    )


def hash_files(files: Sequence[LocalFile], progress: Progress | None = None) -> tuple[HashedFile, ...]:
    """Return each file with the hash of its bytes, hashed on several threads.

    Raises:
        UnreadableInput: a file cannot be read, or changed since the folder was looked at.
    """
    meter = Meter(Stage.HASH, len(files), sum(file.size for file in files), progress)
    stopped: list[bool] = []

    def hashed(file: LocalFile) -> HashedFile:
        digest = hashlib.sha256()
        for chunk in read_range(file, 0, file.size):
            if stopped:
                break
            digest.update(chunk)
            meter.add(bytes=len(chunk))
        meter.add(files=1)
        return HashedFile(file=file, sha256=digest.hexdigest())

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="simyard-hash") as pool:
        try:
            found = tuple(pool.map(hashed, files))
        except BaseException:
            stopped.append(True)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    meter.finish()
    return found


def read_range(file: LocalFile, start: int, length: int) -> Iterator[bytes]:
    """Give some bytes of a file in chunks, and make sure that it is the file that was looked at, before and after.

    Raises:
        UnreadableInput: the file cannot be read, or changed since the folder was looked at.
    """
    try:
        # Without O_NONBLOCK a pipe that took the file's place would hold us for ever.
        handle = os.open(file.source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise _unreadable(file.path, error) from error
    with os.fdopen(handle, "rb", buffering=0) as opened:
        if not file.is_like(os.fstat(handle)):
            raise file.changed
        left = length
        try:
            opened.seek(start)
            while left and (chunk := opened.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
        except OSError as error:
            raise _unreadable(file.path, error) from error
        if left or not file.is_like(os.fstat(handle)):
            raise file.changed


def show(path: str | os.PathLike[str]) -> str:
    """Return a path as it can be printed anywhere, quoted."""
    return repr(os.fsencode(path).decode(errors="backslashreplace"))


def _refuse(path: str, what: str, fix: str) -> InvalidInput:
    return InvalidInput(f"{show(path)} {what}.", field="inputs", fix=fix)


def _unreadable(path: str, error: OSError) -> UnreadableInput:
    if isinstance(error, FileNotFoundError):
        return UnreadableInput(f"{show(path)} vanished while it was read.", field="inputs", fix=_STILL)
    fix = "Make it readable (chmod u+r), or move it out of the folder."
    return UnreadableInput(f"{show(path)} cannot be read ({error.strerror}).", field="inputs", fix=fix)


def _too_many(what: str) -> InvalidInput:
    return InvalidInput(
        f"The folder holds more than {MAX_FILES:,} {what}.", field="inputs", fix="Pack them into an archive."
    )
