"""The disk that a machine offers to tasks: that of the folder in which they run."""

from __future__ import annotations

import shutil
from pathlib import Path

from storage.kept_inputs import kept_bytes


def offered_disk(total: int, free: int) -> int:
    """Return the bytes that tasks may reserve together: what is free but for a tenth of all.

    The tenth is for images and environments that come later, for logs, and for tasks that have asked for no disk.
    """
    return max(0, free - total // 10)


def task_disk(scratch: Path, kept: Path) -> int:
    """Return the bytes of this machine's disk that tasks may reserve together; the folders need not be there yet.

    Inputs that are kept below `kept` give way to tasks.
    """
    there = next(folder for folder in (scratch, *scratch.absolute().parents) if folder.exists())
    usage = shutil.disk_usage(there)
    return offered_disk(usage.total, usage.free + kept_bytes(kept))
