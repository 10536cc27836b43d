"""How far the hashing, uploading or downloading of files is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """What is being done with the files."""

    HASH = "hash"
    UPLOAD = "upload"
    DOWNLOAD = "download"


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """How far a stage is."""

    stage: Stage
    files: int
    of_files: int
    bytes: int
    of_bytes: int


Progress = Callable[[Transferred], None]
"""Is told, from any thread but never from two at once, how far a stage is."""

_SECONDS = 0.05


class Meter:
    """Counts what many threads have done, and reports it about twenty times a second, and at the end."""

    def __init__(self, stage: Stage, of_files: int, of_bytes: int, progress: Progress | None) -> None:
        self._stage = stage
        self._of_files = of_files
        self._of_bytes = of_bytes
        self._files = 0
        self._bytes = 0
        self._progress = progress
        self._told = 0.0
        self._lock = threading.Lock()

    def add(self, bytes: int = 0, files: int = 0) -> None:  # noqa: A002 - the unit that is counted
        """Count bytes and files; bytes are negative where a try is made again."""
        if self._progress is None:
            return
        with self._lock:
            self._bytes += bytes
            self._files += files
            now = time.monotonic()
            if now - self._told >= _SECONDS:
                self._told = now
                self._tell()

    def finish(self) -> None:
        """Report the end."""
        if self._progress is not None:
            with self._lock:
                self._tell()

    def _tell(self) -> None:
        assert self._progress is not None
        self._progress(
            Transferred(
                stage=self._stage,
                files=self._files,
                of_files=self._of_files,
                bytes=self._bytes,
                of_bytes=self._of_bytes,
            )
        )
