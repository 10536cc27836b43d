"""Files on their way into a direct run and out of it: from and to a folder of this machine, or a storage URI."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from simyard.errors import InvalidInput
from simyard.files import check_relative
from simyard.folder import read_range, scan
from storage.errors import StorageUnavailable, UnsafePath
from storage.folder import Folder, Found
from storage.objects import ObjectStore, open_store, pieces_of
from storage.outputs import NOTES, OWN_FOLDER

_FIX = "Name a folder with the simulator's input files, or a storage URI."


def is_uri(place: str) -> bool:
    """Say whether a place is a storage URI, and not a folder."""
    return "://" in place


def open_place(place: str, field: str) -> ObjectStore:
    """Return the store at a URI; `field` names the argument.

    Raises:
        InvalidInput: the URI names no storage.
    """
    try:
        return open_store(place)
    except InvalidInput as error:
        raise InvalidInput(error.reason, field=field, fix=error.fix) from error


def bring(source: str, folder: Path) -> tuple[str, ...]:
    """Copy the input files of a folder or a storage URI into a run's folder, and return their paths.

    Raises:
        InvalidInput: there are no files, or something among them is no file, or leaves the folder.
    """
    target = Folder(folder)
    paths = []
    for path, pieces, mode in _objects(source) if is_uri(source) else _files(source):
        target.write(path, pieces, mode=mode)
        paths.append(path)
    if not paths:
        raise InvalidInput(f"{source!r} has no files.", field="input", fix=_FIX)
    return tuple(paths)


def _objects(source: str) -> Iterator[tuple[str, Iterable[bytes], int]]:
    store = open_place(source, "input")
    for item in store.list(""):
        try:
            yield check_relative(item.key), store.stream(item.key), 0o644
        except ValueError as error:
            raise InvalidInput(f"{item.key!r} cannot be a file: {error}.", field="input") from error


def _files(source: str) -> Iterator[tuple[str, Iterable[bytes], int]]:
    try:
        found = scan(source)
    except InvalidInput as error:
        raise InvalidInput(error.reason, field="input", fix=error.fix or _FIX) from error
    for file in found:
        yield file.path, read_range(file, 0, file.size), file.mode


def check_target(target: str) -> None:
    """Refuse a place that cannot take outputs.

    Raises:
        InvalidInput: it names no storage, or a file stands where the folder should be.
    """
    if is_uri(target):
        open_place(target, "output")
    elif any(part.exists() and not part.is_dir() for part in (Path(target), *Path(target).absolute().parents)):
        raise InvalidInput(f"{target!r} is not a folder.", field="output", fix="Name a folder, or a storage URI.")


def keep(folder: Path, made: Iterable[Found], logs: Mapping[str, Path], target: Path) -> None:
    """Copy what a run has made, and its logs, into a folder; nothing is written outside of it.

    Links that leave the folder, and what is no file, are named in `.simyard/not-stored.txt` instead.

    Raises:
        StorageUnavailable: the folder cannot take a file.
    """
    notes: dict[str, str] = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        source, goal = Folder(folder), Folder(target)
        for found in made:
            if trouble := _keep_one(source, goal, found):
                notes[found.path or "."] = trouble
        for name, log in logs.items():
            with suppress(FileNotFoundError):
                goal.write(f"{OWN_FOLDER}/{name}", pieces_of(log), mode=0o644)
        if notes:
            text = "".join(f"{path}: {trouble}\n" for path, trouble in notes.items())
            goal.write(NOTES, [text.encode(errors="surrogateescape")], mode=0o644)
    except OSError as error:
        raise StorageUnavailable(f"{target} cannot take the outputs: {error}.") from error


def _keep_one(source: Folder, goal: Folder, found: Found) -> str | None:
    """Copy one thing; return what is wrong with it where it was left out."""
    info = found.stat
    if info is None:
        return f"it could not be read: {found.trouble}"
    if found.path.split("/")[0] == OWN_FOLDER:
        return f"the folder {OWN_FOLDER} is Simyard's own"
    try:
        if stat.S_ISLNK(info.st_mode):
            link = source.read_link(found.path)
        elif stat.S_ISREG(info.st_mode):
            opened = source.open(found.path)
        else:
            return "it is a device, a socket or a named pipe"
    except (OSError, UnsafePath) as error:
        return f"it could not be read: {error}"
    if stat.S_ISLNK(info.st_mode):
        return None if goal.link(found.path, link) else f"it is a link that leaves the folder, to {link}"
    with os.fdopen(opened, "rb", buffering=0) as file:
        pieces = iter(lambda: file.read(1024 * 1024), b"")
        goal.write(found.path, pieces, mode=stat.S_IMODE(info.st_mode), mtime_ns=info.st_mtime_ns)
    return None
