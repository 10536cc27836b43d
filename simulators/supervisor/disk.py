"""How much of the disk a run takes, and whether there is any left."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator

_SHARE = 0.05
GROWTH_SECONDS = 10.0
"""Over how long the growth of a run is looked at."""


class DiskMeter:
    """Sums up a tree's blocks on disk in slices of bounded time, over and over.

    `besides` gives the bytes that the run takes elsewhere on the disk; they count as its growth only.
    """

    def __init__(self, paths: list[str], besides: Callable[[], int] = int) -> None:
        self._paths = paths
        self._besides = besides
        self._walk = self._sum()
        self._next = 0.0
        self._print = 0
        self._history: list[tuple[float, int, int]] = []
        self.used = 0
        """Bytes at the end of the last walk."""
        self.looked_at = 0.0
        """When the last walk that came to its end began."""
        self.changed_at = 0.0
        """When the last walk ended that found something changed since the one before."""

    def begin(self) -> None:
        """Take note that a run begins: what was there before is not its growth, where that is known already."""
        if not self._history:
            self._history = [(time.monotonic(), 0, 0)]

    def growth(self) -> tuple[int, int]:
        """Return by how many bytes and files the tree grew lately."""
        if not self._history:
            return 0, 0
        _, used, files = self._history[-1]
        return used - min(point[1] for point in self._history), files - min(point[2] for point in self._history)

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
        begun = time.monotonic()
        used, files, changes, linked, todo = 0, 0, 0, set(), list(self._paths)
        while todo:
            folder = todo.pop()
            try:
                # A file that is made and removed between two walks leaves its trace on its folder.
                changes += os.stat(folder).st_ctime_ns
                entries = os.scandir(folder)
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
                    files += 1
                    changes += info.st_ctime_ns + info.st_size + info.st_ino
                    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                        if info.st_ino in linked:
                            continue
                        linked.add(info.st_ino)
                    used += info.st_blocks * 512
                    if stat.S_ISDIR(info.st_mode):
                        todo.append(entry.path)
            yield
        self._found(begun, used, files, changes)

    def _found(self, begun: float, used: int, files: int, changes: int) -> None:
        now = time.monotonic()
        self.used, self.looked_at = used, begun
        if changes != self._print:
            self._print, self.changed_at = changes, now
        self._history.append((now, used + self._besides(), files))
        while len(self._history) > 1 and self._history[1][0] <= now - GROWTH_SECONDS:
            del self._history[0]


class Shortage:
    """How little is left on a file system, and how much of it one run took lately."""

    def __init__(self, free: int, files: int | None, grown: tuple[int, int]) -> None:
        self.free = free
        """Bytes."""
        self._files = files
        self._grown = grown

    @property
    def is_of_the_run(self) -> bool:
        """Say whether the run is one that grows, so that it must end: the less is left, the less growth suffices."""
        bytes_grown, files_grown = self._grown
        return bytes_grown > self.free // 4 if self._files is None else files_grown > 0

    @property
    def evidence(self) -> dict[str, int]:
        """What was measured, in bytes and files."""
        grown = {"grew": self._grown[0]} if self._files is None else {"grew_files": self._grown[1]}
        return {"free": self.free} | grown

    def __str__(self) -> str:
        if self._files is not None:
            return "The machine's disk can take no more files."
        took = f", and the task took {self._grown[0]} in the last {GROWTH_SECONDS:.0f} s" if self._grown[0] > 0 else ""
        return f"The machine's disk is full: {self.free} bytes are free{took}."


def shortage(folder: str, reserve: int, grown: tuple[int, int] = (0, 0)) -> Shortage | None:
    """Return what the file system of a folder is short of, if anything; `reserve` bytes are to stay free.

    `grown` says by how many bytes and files the run grew lately.
    """
    try:
        system = os.statvfs(folder)
    except OSError:
        return None
    reserve = min(reserve, system.f_blocks * system.f_frsize // 20)
    free = system.f_bavail * system.f_frsize
    if free < reserve:
        return Shortage(free, None, grown)
    if system.f_files and not system.f_favail:
        return Shortage(free, 0, grown)
    return None
