"""Files that are held by a lock, which the system drops when the process that has it dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def open_locked(path: Path, flags: int, lock: int) -> int:
    """Return a descriptor of a file that is opened with these flags and held by `LOCK_SH` or `LOCK_EX`.

    Raises:
        BlockingIOError: somebody else's lock excludes it.
        OSError: it cannot be opened.
    """
    handle = os.open(path, flags, 0o600)
    try:
        fcntl.flock(handle, lock | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle
