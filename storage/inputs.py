"""Input files, kept once each under the hash of their content."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path

from simyard.files import InputFile, Staged, check_relative
from storage.errors import DiskFull, InputDamaged, InputMissing, ObjectNotFound, StorageUnavailable, UnsafePath
from storage.folder import Folder
from storage.hashing import verified
from storage.kept_inputs import KeptInputs
from storage.objects import ObjectStore, pieces_of
from storage.parallel import each
from storage.paths import Paths
from storage.retries import Retries, check_stopped, never

_ASKERS = 16
"""Questions to a store at a time."""
_MOST_ASKED = 64
"""Questions of one thread, one after the other."""


def stored_sizes(store: ObjectStore, hashes: Iterable[str]) -> dict[str, int | None]:
    """Return the size of each input file in the storage; None for one that is not there."""
    ordered = sorted(set(hashes))
    # Several a call where there are many: handing one over to a thread costs more than to look into a folder.
    count = min(1 + len(ordered) // (4 * _ASKERS), _MOST_ASKED)
    parts = [ordered[first : first + count] for first in range(0, len(ordered), count)]
    found = each(lambda part: [store.head(Paths.input(sha256)) for sha256 in part], parts, threads=_ASKERS)
    heads = chain.from_iterable(found)
    return {sha256: None if info is None else info.size for sha256, info in zip(ordered, heads, strict=True)}


def put_input(store: ObjectStore, data: bytes | Path) -> str:
    """Store an input file and return its hash; one that is there already is not sent again.

    Raises:
        InputDamaged: the file changed while it was read.
    """
    sha256 = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else _hash_of(data)
    key = Paths.input(sha256)
    if store.head(key) is None:
        if isinstance(data, bytes):
            store.put(key, data)
        else:
            error = InputDamaged(f"{data} changed while it was read.", fix="Send it again.")
            size = data.stat().st_size
            store.put(key, verified(pieces_of(data), sha256, size, error), size=size)
    return sha256


def stage(
    store: ObjectStore,
    files: Sequence[InputFile],
    folder: Path,
    *,
    kept: KeptInputs | None = None,
    stopped: Callable[[], bool] = never,
    retries: Retries | None = None,
) -> Staged:
    """Bring input files into a folder, with their modes, and return where they came from.

    Every byte is checked against the file's hash when it comes from the storage. What this machine keeps is copied, and
    what it does not is kept from now on; without `kept` nothing is.

    Raises:
        InputMissing: a file was never uploaded.
        InputDamaged: the storage holds other bytes than the hash says.
        UnsafePath: a path would leave the folder.
        DiskFull: the folder's disk cannot take them.
        StorageUnavailable: the storage, or the folder's disk, failed.
        Stopped: the work was told to stop; the folder is then incomplete.
    """
    for file in files:
        try:
            check_relative(file.path)
        except ValueError as error:
            raise UnsafePath(str(error)) from None
    target, patience = Folder(folder), retries or Retries()

    def bring(file: InputFile) -> int:
        was_fetched = patience.run(lambda: _bring(store, file, target, kept, stopped), stopped)
        return file.size if was_fetched else 0

    fetched = sum(each(bring, files, stopped=stopped))
    return Staged(fetched=fetched, kept=sum(file.size for file in files) - fetched)


def _bring(
    store: ObjectStore, file: InputFile, target: Folder, kept: KeptInputs | None, stopped: Callable[[], bool]
) -> bool:
    """Bring a file; says whether it came from the storage."""
    damaged = InputDamaged(
        f"the storage holds other bytes for {file.path} than its hash {file.sha256} says.",
        field="inputs",
        fix="Ask the operator to delete that object and upload the file again.",
    )

    def fetch() -> Iterator[bytes]:
        pieces = store.stream(Paths.input(file.sha256))
        return verified(_stoppable(pieces, stopped), file.sha256, file.size, damaged)

    try:
        lent = None if kept is None else kept.borrow(file.sha256, file.size, fetch, stopped)
        if lent is None:
            target.write(file.path, fetch(), mode=file.mode)
        else:
            with closing(lent):
                target.copy(file.path, lent.descriptor, mode=file.mode, check=partial(check_stopped, stopped))
    except ObjectNotFound:
        raise InputMissing(
            f"{file.path} ({file.sha256}) was never uploaded.", field="inputs", fix="Upload it, then submit again."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            if kept is not None and kept.clear():
                raise StorageUnavailable("The machine's disk was full; what it had kept has been removed.") from error
            fix = "Free space on the machine, or choose another one."
            raise DiskFull(f"The machine's disk is full: {file.path} does not fit on it.", fix=fix) from error
        raise StorageUnavailable(f"{file.path} could not be written: {error.strerror}.") from error
    return lent is None or lent.was_fetched


def _stoppable(pieces: Iterable[bytes], stopped: Callable[[], bool]) -> Iterator[bytes]:
    for piece in pieces:
        check_stopped(stopped)
        yield piece


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
