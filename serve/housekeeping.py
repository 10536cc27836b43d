"""What a server does once an hour without being asked: it applies the rules of retention."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from simyard.errors import SimyardError
from storage.settings import Settings
from tasks.store import open_store

_FIRST = 60.0
_EVERY = 3600.0


class Housekeeping:
    """Applies the rules in a process of its own, so that neither a long one nor a defect holds the keeper up.

    `environment` is that of the server; `first` is after how many seconds it begins.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str], *, first: float = _FIRST) -> None:
        self._settings = settings
        self._environment = environment
        self._due = time.monotonic() + first
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start it where it is due; returns at once."""
        if self.is_busy or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _EVERY
        # A store that cannot be asked now is asked in an hour.
        with suppress(SimyardError):
            if self._has_rules():
                command = [sys.executable, "-m", "serve.retention"]
                self._process = subprocess.Popen(command, env=os.environ | self._environment, cwd="/")

    @property
    def is_busy(self) -> bool:
        """Say whether it goes on."""
        return self._process is not None and self._process.poll() is None

    def _has_rules(self) -> bool:
        store = open_store(self._settings.task_store)
        try:
            return bool(store.retention())
        finally:
            store.close()

    def close(self) -> None:
        """End what goes on; the next time completes it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
