"""The commands' output on disk."""

from __future__ import annotations

import os


class Log:
    """A stream of the commands' output on disk: as it came, up to a limit, the rest counted."""

    def __init__(self, path: str, limit: int) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._handle).st_size
        self._left = max(0, limit - self.size)
        self._limit = limit
        self._dropped = 0
        self._path = path
        self._begun = self.size

    def begin(self) -> None:
        """Take note that a command's output starts here."""
        self._begun = self.size

    def write(self, data: memoryview) -> None:
        """Append the data as far as limit and disk allow."""
        taken = 0
        try:
            while taken < len(data) and self._left:
                wrote = os.write(self._handle, data[taken : taken + self._left])
                taken += wrote
                self._left -= wrote
        except OSError:
            pass  # the disk is full: what does not fit is counted
        self.size += taken
        self._dropped += len(data) - taken

    def tail(self) -> str:
        """Return the last that the newest command printed, as text."""
        with open(self._path, "rb") as file:
            file.seek(max(self._begun, self.size - 1000))
            return file.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Say how much was left out, and close."""
        if self._dropped:
            note = f"\n[Simyard left out the next {self._dropped} bytes: over the limit of {self._limit} or no disk.]\n"
            try:
                os.write(self._handle, note.encode())
            except OSError:
                pass  # the disk is full
        os.close(self._handle)
