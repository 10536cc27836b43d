"""What a folder held at a moment, so that later changes are told from what was there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.folder import Folder, Found

Stamp = tuple[int, int, int, int]
"""Size in bytes, mtime and ctime in nanoseconds, and inode: equal stamps mean an untouched file."""


@dataclass(frozen=True)
class Stamps:
    """The stamps of a folder's files and links, by path."""

    stamps: Mapping[str, Stamp]

    def has(self, found: Found) -> bool:
        """Say whether the file is still what it was when the stamps were taken."""
        return found.stat is not None and self.stamps.get(found.path) == _stamp(found.stat)

    def save(self, file: Path) -> None:
        """Write the stamps to a file, so that another process can go on."""
        temporary = file.with_name(file.name + ".part")
        temporary.write_text(json.dumps(self.stamps), encoding="ascii")
        temporary.replace(file)

    @classmethod
    def load(cls, file: Path) -> Stamps:
        """Return the stamps that a file holds."""
        found = json.loads(file.read_text(encoding="ascii"))
        return cls({path: (size, mtime, ctime, inode) for path, (size, mtime, ctime, inode) in found.items()})


def take_stamps(folder: Path, wanted: Callable[[Found], bool] = lambda _: True) -> Stamps:
    """Return what a folder holds, all of it or what is wanted."""
    walk = (found for found in Folder(folder).walk() if wanted(found))
    return Stamps({found.path: _stamp(found.stat) for found in walk if found.stat is not None})


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
