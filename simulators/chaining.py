"""Bringing outputs of other tasks into the folder of one that takes them as inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simulators.work import Taken
from simyard.files import EntryKind, InputFile, ManifestEntry, matches
from storage.errors import InputDamaged, InputMissing, ObjectNotFound, OutputDamaged
from storage.manifest import read_manifest
from storage.objects import ObjectStore
from storage.reader import restore
from storage.retries import never


def take_outputs(
    store: ObjectStore,
    taken: Sequence[Taken],
    own: Sequence[InputFile],
    folder: Path,
    *,
    stopped: Callable[[], bool] = never,
) -> None:
    """Bring the outputs that a task takes of others into its folder, each checked by its hash; its own files win.

    Raises:
        InputMissing: a task has stored no outputs, or none that is asked for.
        InputDamaged: two give the same path, one gives a file where another has a folder, or stored bytes are wrong.
        StorageUnavailable: the storage, or the folder's disk, failed.
        Stopped: the work was told to stop; the folder is then incomplete.
    """
    if not taken:
        return
    found = [(one, _entries(store, one)) for one in taken]
    ours = {file.path for file in own}
    _check_places(found, ours)
    for one, entries in found:
        assert one.attempt is not None
        try:
            restore(store, one.task, one.attempt, [e for e in entries if e.path not in ours], folder, stopped=stopped)
        except OutputDamaged as error:
            raise InputDamaged(
                f"An output of task {one.task} cannot be taken: {error.reason}", field="inputs"
            ) from error


def _entries(store: ObjectStore, one: Taken) -> list[ManifestEntry]:
    """Return the outputs that are taken of one task, with the paths that they get."""
    nothing = InputMissing(f"Task {one.task} has stored no outputs.", field="inputs")
    if one.attempt is None:
        raise nothing
    try:
        rows = read_manifest(store, one.task, one.attempt, wanted=lambda path: matches(path, one.what.path))
    except ObjectNotFound:
        raise nothing from None
    except OutputDamaged as error:
        raise InputDamaged(f"The outputs of task {one.task} cannot be read: {error.reason}", field="inputs") from error
    entries = [row for row in rows if row.kind is EntryKind.OUTPUT]
    if not entries:
        raise InputMissing(f"No output of task {one.task} matches {one.what.path!r}.", field="inputs")
    return [row.model_copy(update={"path": one.what.place(row.path)}) for row in entries]


def _check_places(found: Sequence[tuple[Taken, Sequence[ManifestEntry]]], own: set[str]) -> None:
    """Refuse a path that two tasks give, and one that is a file here and a folder there."""
    givers: dict[str, str] = {}
    for one, entries in found:
        for entry in entries:
            if entry.path not in own and givers.setdefault(entry.path, one.task) != one.task:
                raise InputDamaged(
                    f"Tasks {givers[entry.path]} and {one.task} both give {entry.path!r}.",
                    field="inputs",
                    fix="Put the outputs of one of them into a folder of its own with `into`.",
                )
    paths = own | givers.keys()
    for path in paths:
        parts = path.split("/")
        for i in range(1, len(parts)):
            if (above := "/".join(parts[:i])) in paths:
                raise InputDamaged(f"{above!r} is both a file and a folder among the inputs.", field="inputs")
