"""The folders in which runs work: claimed by a living process, taken over or swept when their process is gone.

A claim is a lock on a file in the folder. The system drops it when the process dies, however it dies, so a folder that
nobody locks belongs to nobody. The run of an attempt that had begun may be taken over; what else still runs has to end.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulators import supervisor
from simulators.errors import NotAdoptable, SupervisorLost
from simulators.runtimes import Running
from storage.locks import open_locked
from storage.stamps import Stamps

log = logging.getLogger(__name__)

ADOPTION_SECONDS = 900.0
"""How long the run of an attempt goes on, or waits with its results, for somebody who takes it over."""
_LOCK = "lock"
_GPUS = "gpus.json"
_BEFORE = "before.json"
_POLL = 0.1


class Claim:
    """A run's folder `root` with `work` and `control` in it, locked by this process until it is released."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self.work = root / "work"
        self.control = root / "control"
        self._lock = lock

    @classmethod
    def make(cls, root: Path) -> Claim:
        """Return a folder of that name, made anew and empty."""
        clear(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        with _alone(root.parent):
            root.mkdir()
            claim = cls(root, _lock(root))
        claim.work.mkdir()
        claim.control.mkdir(mode=0o700)
        return claim

    @classmethod
    def adopt(cls, root: Path, gpu_ids: Collection[str], patience: float) -> Claim:
        """Return the folder of a process that has died, as that left it, with its run.

        Another process that has it may only just be dying: it is given `patience` seconds. `gpu_ids` are those that
        Ray gave to this process: the run has the same, or it would share one with somebody else's.

        Raises:
            NotAdoptable: the folder is not here, another process has it, or nothing goes on or has ended in it.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                # The lock is there or the folder is not: nothing may be made in one that is being removed.
                lock = _lock(root, make=False)
                break
            except FileNotFoundError:
                raise NotAdoptable("Its folder is not on this machine.") from None
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise NotAdoptable("Another process has its folder.") from None
                time.sleep(_POLL)
        claim = cls(root, lock)
        trouble = _trouble(root)
        if trouble is None and _gpus(root) != sorted(gpu_ids):
            trouble = "It has other GPUs than those that are free now."
        if trouble is not None:
            claim.release()
            raise NotAdoptable(trouble)
        Running.attach(claim.control).beat()
        return claim

    def allow_adoption(self, before: Stamps, gpu_ids: Collection[str]) -> None:
        """Keep what a process needs that takes the run over: what `work` held before the commands, and their GPUs."""
        if gpu_ids:
            (self.root / _GPUS).write_text(json.dumps(list(gpu_ids)))
        before.save(self.root / _BEFORE)

    def before(self) -> Stamps:
        """Return what `work` held before the commands.

        Raises:
            NotAdoptable: that cannot be read.
        """
        try:
            return Stamps.load(self.root / _BEFORE)
        except (OSError, ValueError) as error:
            raise NotAdoptable(f"What its folder held before the commands cannot be read: {error}.") from error

    def forbid_adoption(self) -> None:
        """Leave nothing to take over: should this process die now, the next sweep removes the folder."""
        (self.root / _BEFORE).unlink(missing_ok=True)

    def release(self) -> None:
        """Remove the folder with all that is in it, and end what still runs there."""
        self.forbid_adoption()
        clear(self.root)
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


def _lock(root: Path, *, make: bool = True) -> int:
    """Return the lock on a run's folder.

    Raises:
        BlockingIOError: another process has it.
        FileNotFoundError: the folder is not there, or is being removed.
    """
    handle = open_locked(root / _LOCK, os.O_WRONLY | (os.O_CREAT if make else 0), fcntl.LOCK_EX)
    if not os.fstat(handle).st_nlink:
        os.close(handle)
        raise FileNotFoundError(root)
    return handle


def _gpus(root: Path) -> list[str]:
    """Return the GPUs of the run in a folder."""
    try:
        return sorted(json.loads((root / _GPUS).read_bytes()))
    except FileNotFoundError:
        return []


def _trouble(root: Path) -> str | None:
    """Return why the run in a folder cannot be taken over; None where it can."""
    if not (root / _BEFORE).exists():
        return "Its inputs were not in place yet, or its outputs are stored."
    try:
        end = Running.attach(root / "control").poll()
    except SupervisorLost:
        return "Its commands had not begun, or nothing is left that knows of their end."
    return "Its commands were ended, since nobody watched them." if end and end.why == "orphaned" else None


def clear(root: Path) -> None:
    """End what still runs in a run's folder and remove the folder; absent is fine."""
    if (root / "control" / supervisor.PLAN).exists():  # it is written before anything starts
        Running.attach(root / "control").reap()
    remove_tree(root)


def sweep(scratch: Path, *, prefix: str = "", current: Collection[str] | None = None) -> int:
    """Clear the runs' folders below `scratch` that nobody has and nobody may take over; returns how many there were.

    Args:
        scratch: the folder that holds them.
        prefix: how the names of those begin that are looked at.
        current: names of the runs that somebody is going to take over, who is given time for it from now on. By
            default that is not known: then a run that can be taken over is left for a while.
    """
    swept = 0
    for root in list(scratch.iterdir()) if scratch.is_dir() else ():
        if not root.name.startswith(prefix):
            continue
        try:
            with _alone(scratch):
                lock = _lock(root)
        except (BlockingIOError, FileNotFoundError):
            continue
        try:
            if _is_left(root, current):
                continue
            clear(root)
            swept += 1
        except OSError as error:
            log.warning("%s could not be swept: %s", root, error)
        finally:
            os.close(lock)
    return swept


def _is_left(root: Path, current: Collection[str] | None) -> bool:
    """Say whether a folder that nobody has is left for somebody who takes its run over."""
    if current is None:
        return Running.attach(root / "control").was_watched(ADOPTION_SECONDS) and _trouble(root) is None
    if root.name not in current or _trouble(root) is not None:
        return False
    Running.attach(root / "control").beat()
    return True


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
