"""Downloaded files in their folder: nothing is written outside of it, and a file is whole or not there."""

from __future__ import annotations

import hashlib
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simyard import errors
from simyard.files import EntryKind, ManifestEntry, check_relative
from simyard.folder import CHUNK, show

_OWN = ".simyard/"


class Place:
    """A folder that takes downloaded files."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            InvalidInput: there is something else at its place.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise errors.InvalidInput(
                f"The folder {show(self.folder)} cannot be made ({error.strerror}).",
                field="folder",
                fix="Choose another one.",
            ) from error

    def path(self, entry: ManifestEntry) -> Path:
        """Return where an entry goes.

        Raises:
            Damaged: its path leaves the folder.
        """
        own = entry.kind is EntryKind.LOG and entry.path.startswith(_OWN)
        rest = entry.path.removeprefix(_OWN) if own else entry.path
        try:
            check_relative(rest)
        except ValueError as error:
            raise errors.Damaged(f"The list of outputs has a path that is refused: {error}.") from error
        if os.name == "nt" and any(c in rest for c in ':\\"<>|?*'):
            raise errors.Damaged(f"{show(entry.path)} is no name for a file on this computer.")
        return self.folder / entry.path

    def has(self, entry: ManifestEntry) -> bool:
        """Say whether the file is there already, with the right bytes."""
        path = self.path(entry)
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
                return False
            self._check_parents(path)
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        except OSError:
            return False

    @contextmanager
    def writing(self, entry: ManifestEntry) -> Iterator[BinaryIO]:
        """Give a file to write an entry to; it takes its place and its times only when the block ends well.

        Raises:
            InvalidInput: something else stands where it, or a folder above it, goes.
        """
        path = self.path(entry)
        try:
            self._check_parents(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{secrets.token_hex(6)}.simyard-part")
            try:
                handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
                with os.fdopen(handle, "wb", buffering=CHUNK) as file:
                    yield file
                fresh.chmod(entry.mode & 0o777)
                os.utime(fresh, ns=(entry.mtime_ns, entry.mtime_ns))
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error

    def refresh(self, entry: ManifestEntry) -> None:
        """Set permissions and times of a file that was there already."""
        path = self.path(entry)
        try:
            path.chmod(entry.mode & 0o777)
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError:
            # It may be another user's: its bytes are right, which is what counts.
            return

    def link(self, entries: list[ManifestEntry]) -> list[ManifestEntry]:
        """Make the symbolic links that stay in the folder, after all files, and return the entries left out."""
        made: list[ManifestEntry] = []
        left_out: list[ManifestEntry] = []
        for entry in entries:
            (made if self._try_link(entry) else left_out).append(entry)
        top = self.folder.resolve()
        while escaping := [entry for entry in made if not _resolved(self.path(entry)).is_relative_to(top)]:
            # Links together can lead where none of them leads alone.
            for entry in escaping:
                self.path(entry).unlink(missing_ok=True)
            made = [entry for entry in made if entry not in escaping]
            left_out += escaping
        return left_out

    def _try_link(self, entry: ManifestEntry) -> bool:
        assert entry.link is not None
        path = self.path(entry)
        if posixpath.isabs(entry.link) or "\0" in entry.link:
            return False
        lands = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.link))
        if lands == ".." or lands.startswith("../"):
            return False
        try:
            self._check_parents(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                path.unlink()
            path.symlink_to(entry.link)
        except (OSError, errors.InvalidInput):
            return False
        return True

    def _check_parents(self, path: Path) -> None:
        """Refuse to follow links below the folder: they could lead out of it."""
        for parent in path.parents:
            if parent == self.folder:
                return
            if parent.is_symlink():
                raise errors.InvalidInput(
                    f"{show(parent)} is a symbolic link; files are not written through it.",
                    field="folder",
                    fix="Remove it, or choose another folder.",
                )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle leads nowhere
        return path.parent.resolve()


def _unwritable(path: Path, error: OSError) -> errors.SimyardError:
    if isinstance(error, errors.SimyardError):
        return error
    return errors.InvalidInput(
        f"{show(path)} cannot be written ({error.strerror}).",
        field="folder",
        fix="Choose another folder, or make room and try again: what is there already is not downloaded twice.",
    )
