"""Snapshots of a run's restart files, taken beside the run: on an interval, and when somebody asks."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from simulators.errors import Stopped
from simulators.scratch import remove_tree
from simulators.work import News, NoSnapshot, Superseded, Work
from simyard.checkpoint import Checkpoint, Snapshot
from simyard.errors import SimyardError
from simyard.files import matches
from storage.errors import StorageUnavailable
from storage.folder import Folder, Found
from storage.objects import CHUNK, ObjectStore
from storage.retries import Retries
from storage.snapshots import last_number, prune_snapshots, put_snapshot
from storage.stamps import Stamps, take_stamps

log = logging.getLogger(__name__)

_TRIES = 6
_PAUSE = 0.2
_JOIN = 30.0
_RETRIES = Retries(tries=3)  # after that, the next interval tries again


class Changed(Exception):  # noqa: N818
    """The restart files are being written just now."""


def copy_stable(folder: Path, globs: Sequence[str], target: Path) -> Stamps:
    """Copy the files that match into an empty folder and return their stamps; links are left out.

    None of them has changed between the first look and the last, so that the copy is what they were at one moment.

    Raises:
        Changed: a file was written, came or went meanwhile.
        OSError: a file could not be read, or the copy not be written.
    """

    def wanted(found: Found) -> bool:
        is_file = found.stat is not None and stat.S_ISREG(found.stat.st_mode)
        return is_file and any(matches(found.path, glob) for glob in globs)

    before = take_stamps(folder, wanted)
    source, goal = Folder(folder), Folder(target)
    for path in before.stamps:
        try:
            handle = source.open(path)
        except FileNotFoundError:
            raise Changed from None
        with os.fdopen(handle, "rb", buffering=0) as file:
            info = os.fstat(file.fileno())
            pieces = iter(lambda: file.read(CHUNK), b"")
            goal.write(path, pieces, mode=stat.S_IMODE(info.st_mode), mtime_ns=info.st_mtime_ns)
    if take_stamps(folder, wanted) != before:
        raise Changed
    return before


class Checkpoints:
    """The snapshots of one attempt, taken in a thread of their own; whatever goes wrong there, the run goes on.

    `copy` is a folder that is theirs; `confirm` raises when the attempt is not the current one any more; `tell` is
    given what is to be said of them.
    """

    def __init__(
        self,
        work: Work,
        checkpoint: Checkpoint,
        store: ObjectStore,
        *,
        folder: Path,
        copy: Path,
        confirm: Callable[[Callable[[], bool]], None],
        tell: Callable[[News], None],
    ) -> None:
        self._work, self._checkpoint, self._store = work, checkpoint, store
        self._folder, self._copy = folder, copy
        self._confirm, self._tell = confirm, tell
        self._number: int | None = None
        self._last: tuple[Stamps, Snapshot] | None = None
        self._was_trouble = self._is_last = False
        self._asked = self._answered = 0
        self._answer: Snapshot | SimyardError = NoSnapshot()
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take snapshots: the commands run."""
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def take(self, patience: float, *, last: bool = False) -> Snapshot:
        """Return a snapshot of the restart files as they are now, or the newest one where they are still the same.

        The `last` one is kept also where the lease does not hold: it bears its attempt's number, so that the snapshots
        of another attempt that may have taken over count as newer.

        Raises:
            NoSnapshot: the commands do not run, there are no restart files, or there is none within `patience` seconds.
        """
        with self._changed:
            if self._thread is None or self._closed:
                raise NoSnapshot("The commands of the task do not run now.", fix="Ask while it is running.")
            self._is_last = self._is_last or last
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket or self._closed, timeout=patience)
            if self._answered < ticket:
                said = "its commands ended meanwhile" if self._closed else f"it takes longer than {patience:g} s"
                raise NoSnapshot(f"There is no snapshot: {said}.", fix="`simyard tasks info` shows the newest one.")
            if isinstance(self._answer, SimyardError):
                raise self._answer
            return self._answer

    def close(self) -> None:
        """Take no more: one that is being taken is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_JOIN)

    def _run(self) -> None:
        due = time.monotonic() + self._checkpoint.every
        while True:
            with self._changed:
                left = max(0.0, due - time.monotonic())
                self._changed.wait_for(lambda: self._closed or self._asked > self._answered, timeout=left)
                if self._closed:
                    return
                ticket = self._asked
            answer = self._taken()
            due = time.monotonic() + self._checkpoint.every
            with self._changed:
                if ticket > self._answered:
                    self._answered, self._answer = ticket, answer
                    self._changed.notify_all()

    def _taken(self) -> Snapshot | SimyardError:
        """Return a snapshot, or why there is none; a trouble is told once until one succeeds again."""
        try:
            snapshot = self._take()
        except (Stopped, Superseded):
            return NoSnapshot("The attempt has ended meanwhile.")
        except NoSnapshot as error:
            return error
        except Exception as error:  # a snapshot must never end the run
            log.warning("no snapshot of %s: %s", self._work.box, error, exc_info=not isinstance(error, SimyardError))
            why = error.reason if isinstance(error, SimyardError) else f"{type(error).__name__}: {error}."
            if not self._was_trouble:
                self._was_trouble = True
                self._tell(News(message=f"A snapshot could not be taken: {why}"[:1000]))
            return NoSnapshot(f"A snapshot could not be taken: {why}"[:1000])
        self._was_trouble = False
        return snapshot

    def _take(self) -> Snapshot:
        work = self._work
        stamps = self._copied()
        if self._last is not None and self._last[0] == stamps:
            return self._last[1]
        if self._number is None:
            self._number = last_number(self._store, work.task, work.attempt)
        self._number += 1
        snapshot = put_snapshot(
            self._store,
            work.task,
            work.attempt,
            self._number,
            self._copy,
            stopped=lambda: self._closed,
            retries=_RETRIES,
            confirm=self._confirmed,
        )
        remove_tree(self._copy)
        self._last = stamps, snapshot
        told = f"Snapshot {snapshot.number} has {snapshot.files} files, {snapshot.size} bytes."
        self._tell(News(message=told, made=snapshot))
        try:
            prune_snapshots(self._store, work.task, (work.attempt, snapshot.number))
        except StorageUnavailable as error:
            log.warning("older snapshots of %s are left: %s", work.box, error)
        return snapshot

    def _confirmed(self) -> None:
        # A process that was frozen for longer than its lease has been replaced.
        if not self._is_last:
            self._confirm(lambda: self._closed or self._is_last)

    def _copied(self) -> Stamps:
        for number in range(_TRIES):
            remove_tree(self._copy)
            self._copy.mkdir()
            try:
                stamps = copy_stable(self._folder, self._checkpoint.files, self._copy)
            except Changed:
                with self._changed:
                    if self._changed.wait_for(lambda: self._closed, timeout=_PAUSE * 2**number):
                        raise Stopped from None
                continue
            if not stamps.stamps:
                globs = ", ".join(self._checkpoint.files)
                raise NoSnapshot(f"No file matches {globs} yet.", fix="Ask again once the task has written one.")
            return stamps
        raise NoSnapshot(
            "The restart files were written to whenever they were copied.",
            fix="Let the simulator write them aside and rename them, or less often.",
        )
