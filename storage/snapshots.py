"""Snapshots of an attempt's restart files: each is complete or absent, and only the newest stay.

A snapshot stands below the attempt that made it, and its manifest is written last and only once. The newest one is that
of the newest attempt, so what an older attempt adds late never takes its place.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from simyard.checkpoint import Snapshot
from simyard.files import EntryKind, ManifestEntry
from storage.errors import DiskFull, ObjectNotFound, StorageUnavailable
from storage.manifest import commit_manifest, read_manifest
from storage.objects import ObjectStore
from storage.outputs import store_outputs
from storage.paths import Paths
from storage.reader import restore
from storage.retries import Retries, never

KEPT = 2
"""How many complete snapshots a task has: should the newest prove unreadable, there is the one before it."""

Which = tuple[int, int]
"""The number of an attempt and the number of a snapshot of it."""


def complete_snapshots(store: ObjectStore, task: str) -> list[Which]:
    """Return the complete snapshots of a task, newest first."""
    return _complete(task, _objects(store, task))


def last_number(store: ObjectStore, task: str, attempt: int) -> int:
    """Return the number of the last snapshot that an attempt began; 0 where it began none."""
    return max((number for of, number in _objects(store, task) if of == attempt), default=0)


def put_snapshot(
    store: ObjectStore,
    task: str,
    attempt: int,
    number: int,
    folder: Path,
    *,
    stopped: Callable[[], bool] = never,
    confirm: Callable[[], None] = lambda: None,
    retries: Retries | None = None,
) -> Snapshot:
    """Store the files of a folder as a snapshot and return it; `confirm` may refuse it before it counts.

    Raises:
        StorageUnavailable: the storage failed too often, or not every file could be read.
        Stopped: the work was told to stop.
    """
    entries = store_outputs(
        store, task, attempt, folder, None, logs={}, snapshot=number, stopped=stopped, retries=retries
    )
    left_out = [entry for entry in entries if entry.kind is EntryKind.LOG]
    if left_out or not entries:
        raise StorageUnavailable("Not every restart file could be read.")
    confirm()
    commit_manifest(store, task, attempt, entries, snapshot=number, retries=retries)
    return _told(store, task, (attempt, number), entries)


def bring_snapshot(
    store: ObjectStore, task: str, which: Which, folder: Path, *, stopped: Callable[[], bool] = never
) -> Snapshot:
    """Write a snapshot's files into a folder, over what is there, and return it; every byte is checked.

    Raises:
        ObjectNotFound: it is gone.
        OutputDamaged: the stored bytes are not what its manifest says.
        UnsafePath: a path in it leaves the folder.
        DiskFull: the folder's disk cannot take it.
        StorageUnavailable: the storage, or the folder's disk, failed.
        Stopped: the work was told to stop; the folder is then incomplete.
    """
    attempt, number = which
    entries = read_manifest(store, task, attempt, snapshot=number)
    try:
        restore(store, task, attempt, entries, folder, stopped=stopped)
    except StorageUnavailable as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull("The machine's disk is full: the snapshot does not fit on it.") from error
        raise
    return _told(store, task, which, entries)


def prune_snapshots(store: ObjectStore, task: str, newest: Which) -> None:
    """Remove what is older than a snapshot that has just been completed, but for the newest complete ones."""
    found = _objects(store, task)
    kept = _complete(task, found)[:KEPT]
    _remove(store, task, {which: keys for which, keys in found.items() if which < newest and which not in kept})


def remove_snapshots(store: ObjectStore, task: str) -> None:
    """Remove all snapshots of a task."""
    _remove(store, task, _objects(store, task))


def _remove(store: ObjectStore, task: str, snapshots: dict[Which, list[str]]) -> None:
    # Manifests go first, so that a snapshot is never there in part.
    store.delete([_manifest(task, which) for which in snapshots])
    store.delete([key for keys in snapshots.values() for key in keys])


def _objects(store: ObjectStore, task: str) -> dict[Which, list[str]]:
    found: dict[Which, list[str]] = {}
    for info in store.list(Paths.task(task)):
        named = Paths.snapshot_of(info.key)
        if named is not None:
            found.setdefault(named[:2], []).append(info.key)
    return found


def _complete(task: str, found: dict[Which, list[str]]) -> list[Which]:
    return sorted((which for which, keys in found.items() if _manifest(task, which) in keys), reverse=True)


def _manifest(task: str, which: Which) -> str:
    return Paths.manifest(task, *which)


def _told(store: ObjectStore, task: str, which: Which, entries: list[ManifestEntry]) -> Snapshot:
    info = store.head(_manifest(task, which))
    if info is None:
        raise ObjectNotFound(f"Snapshot {which[1]} of attempt {which[0]} of {task} is gone.")
    size = sum(entry.size for entry in entries)
    return Snapshot(attempt=which[0], number=which[1], at=info.modified, files=len(entries), size=size)
