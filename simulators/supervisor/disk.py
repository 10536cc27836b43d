"""How much of the disk a run takes, and whether there is any left."""

from __future__ import annotations

import os
import stat
import time

TYPE_CHECKING = False  # spares the import of typing at start
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARE = 0.05


class DiskMeter:
    """Sums up a tree's blocks on disk in slices of bounded time, over and over."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._walk = self._sum()
        self._next = 0.0
        self.used = 0
        """Bytes at the end of the last walk."""

    def advance(self, budget: float) -> None:
        """Go on for about `budget` seconds."""
        begun = now = time.monotonic()
        if begun < self._next:
            return
        while now - begun < budget:
            try:
                next(self._walk)
            except StopIteration:
                self._walk = self._sum()
                # A small tree is walked often, a large one so that walking takes a small share of the time.
                self._next = now + max(0.2, (now - begun) / _SHARE)
                return
            now = time.monotonic()

    def finish(self, budget: float) -> None:
        """Walk once more from the start, for at most `budget` seconds."""
        self._walk, self._next = self._sum(), 0.0
        self.advance(budget)

    def _sum(self) -> Iterator[None]:
        used, linked, todo = 0, set(), list(self._paths)
        while todo:
            try:
                entries = os.scandir(todo.pop())
            except OSError:
                continue
            with entries:
                for count, entry in enumerate(entries):
                    if count % 64 == 63:
                        yield
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                        if info.st_ino in linked:
                            continue
                        linked.add(info.st_ino)
                    used += info.st_blocks * 512
                    if stat.S_ISDIR(info.st_mode):
                        todo.append(entry.path)
            yield
        self.used = used


def shortage(folder: str, reserve: int) -> str | None:
    """Return what the file system of a folder is short of, if anything; `reserve` bytes are to stay free."""
    try:
        system = os.statvfs(folder)
    except OSError:
        return None
    reserve = min(reserve, system.f_blocks * system.f_frsize // 20)
    free = system.f_bavail * system.f_frsize
    if free < reserve:
        return f"The machine's disk is full: {free} bytes are free."
    if system.f_files and not system.f_favail:
        return "The machine's disk can take no more files."
    return None
