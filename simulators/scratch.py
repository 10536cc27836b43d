"""The folders in which runs work: claimed by a living process, and swept when their process is gone.

A claim is a lock on a file in the folder. The system drops it when the process dies, however it dies, so a folder that
nobody locks belongs to nobody, and what still runs in it has to end.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulators.runtimes import Running

log = logging.getLogger(__name__)

_LOCK = "lock"


class Claim:
    """A run's folder `root` with `work` and `control` in it, empty and locked by this process until it is released."""

    def __init__(self, root: Path) -> None:
        clear(root)
        self.root = root
        self.work = root / "work"
        self.control = root / "control"
        root.parent.mkdir(parents=True, exist_ok=True)
        with _alone(root.parent):
            root.mkdir()
            self._lock = _lock(root)
        self.work.mkdir()
        self.control.mkdir(mode=0o700)

    def release(self) -> None:
        """Remove the folder with all that is in it."""
        remove_tree(self.root)
        os.close(self._lock)


@contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """Keep others from making and sweeping folders below `scratch` meanwhile."""
    handle = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(root: Path) -> int:
    """Return the lock on a run's folder; raises BlockingIOError when another process has it."""
    handle = os.open(root / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    return handle


def clear(root: Path) -> None:
    """End what still runs in a run's folder and remove the folder; absent is fine."""
    if (root / "control").is_dir():
        Running.attach(root / "control").reap()
    remove_tree(root)


def sweep(scratch: Path) -> int:
    """Clear every run's folder below `scratch` that no living process has claimed; returns how many there were."""
    swept = 0
    for root in scratch.iterdir() if scratch.is_dir() else ():
        try:
            with _alone(scratch):
                lock = _lock(root)
        except (BlockingIOError, FileNotFoundError):
            continue
        try:
            clear(root)
            swept += 1
        except OSError as error:
            log.warning("%s could not be swept: %s", root, error)
        finally:
            os.close(lock)
    return swept


def remove_tree(path: Path) -> None:
    """Remove a folder with all below it, also where a simulation took its own rights away; absent is fine."""

    def allow(function: Callable[..., object], name: str, _: object) -> None:
        Path(name).parent.chmod(0o700)
        if Path(name).is_dir() and not Path(name).is_symlink():
            Path(name).chmod(0o700)
        function(name)

    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=allow)
