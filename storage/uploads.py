"""Uploads of input files in parts that can be taken up again, past us where the storage can sign URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from storage.errors import InputDamaged, InvalidKey, ObjectNotFound, UploadIncomplete
from storage.hashing import verified
from storage.multiparts import Multiparts
from storage.objects import ObjectStore
from storage.paths import Paths

PART_SIZE = 16 * 1024 * 1024
"""Bytes of every part but the last; direct uploads of files too big for 10,000 such parts have larger ones."""

_MAX_PARTS = 10_000


@dataclass(frozen=True, kw_only=True)
class UploadPart:
    """A part that is still missing."""

    number: int
    """Counted from 1."""
    size: int
    """Bytes."""
    url: str | None
    """Takes the part by PUT; None where the API makes its own URL and calls `write_part`."""


@dataclass(frozen=True, kw_only=True)
class UploadPlan:
    """What is still to be sent of one input file."""

    sha256: str
    size: int
    """Bytes of the whole file."""
    part_size: int
    upload: str | None
    """The storage's own name for the upload, to be given back to `complete_upload`."""
    parts: tuple[UploadPart, ...]


def plan_upload(store: ObjectStore, sha256: str, size: int, seconds: int) -> UploadPlan:
    """Return the parts that are missing of an input file; URLs are good for so many seconds.

    An upload that was broken off is taken up again: parts that arrived are not asked for twice.
    """
    direct = store.multiparts()
    part_size = PART_SIZE
    if direct is not None:
        while size > part_size * _MAX_PARTS:
            part_size *= 2
    sizes = {number + 1: min(part_size, size - start) for number, start in enumerate(range(0, size, part_size))}
    upload: str | None = None
    url: Callable[[int], str | None] = _no_url
    if direct is None:
        there = {n: found.size for n in sizes if (found := store.head(Paths.upload_part(sha256, n))) is not None}
    else:
        upload, there, url = _plan_direct(direct, Paths.upload_object(sha256), len(sizes), seconds)
    parts = tuple(UploadPart(number=n, size=s, url=url(n)) for n, s in sizes.items() if there.get(n) != s)
    return UploadPlan(sha256=sha256, size=size, part_size=part_size, upload=upload, parts=parts)


def _plan_direct(
    direct: Multiparts, key: str, count: int, seconds: int
) -> tuple[str | None, dict[int, int], Callable[[int], str | None]]:
    if count <= 1:
        return None, {}, lambda _: direct.sign_put(key, seconds)
    upload = direct.find(key)
    parts = {}
    if upload is not None:
        try:
            parts = direct.parts(key, upload)
        except ObjectNotFound:
            upload = None
    begun = upload or direct.begin(key)
    there = {number: part.size for number, part in parts.items()}
    return begun, there, lambda number: direct.sign_part(key, begun, number, seconds)


def write_part(store: ObjectStore, sha256: str, number: int, data: bytes) -> None:
    """Store one part that the API received.

    Raises:
        InvalidKey: the part's number or size cannot be.
    """
    if not 1 <= number <= 99_999 or len(data) > PART_SIZE:
        raise InvalidKey(f"a part has a number from 1 to 99999 and at most {PART_SIZE} bytes.")
    store.put(Paths.upload_part(sha256, number), data)


def complete_upload(store: ObjectStore, sha256: str, size: int, upload: str | None, etags: Mapping[int, str]) -> None:
    """Make an input file of its parts, once their bytes are seen to have the hash; doing it again is fine.

    `etags` are those of the parts which the client sent; the storage's own list completes and overrules them.

    Raises:
        InputDamaged: the bytes do not have the hash; the parts are dropped.
        UploadIncomplete: parts are missing.
    """
    if store.head(Paths.input(sha256)) is not None:
        _drop(store, sha256)
        return
    damaged = InputDamaged(f"the bytes that were sent do not have the hash {sha256}.", fix="Send the file again.")
    direct = store.multiparts()
    try:
        if size == 0:
            store.put(Paths.input(sha256), verified([], sha256, 0, damaged))
        elif direct is None:
            pieces = _parts(store, sha256, size)
            store.put(Paths.input(sha256), verified(pieces, sha256, size, damaged), size=size)
        else:
            _complete_direct(store, direct, sha256, size, upload, etags, damaged)
    except InputDamaged:
        _drop(store, sha256)
        raise
    _drop(store, sha256)


def _parts(store: ObjectStore, sha256: str, size: int) -> Iterator[bytes]:
    count = -(-size // PART_SIZE)
    for number in range(1, count + 1):
        try:
            yield from store.stream(Paths.upload_part(sha256, number))
        except ObjectNotFound:
            raise _incomplete(f"part {number} of {count} is missing.") from None


def _complete_direct(
    store: ObjectStore,
    direct: Multiparts,
    sha256: str,
    size: int,
    upload: str | None,
    etags: Mapping[int, str],
    damaged: InputDamaged,
) -> None:
    key = Paths.upload_object(sha256)
    if upload is not None and store.head(key) is None:
        try:
            there = direct.parts(key, upload)
            arrived = sum(part.size for part in there.values())
            if arrived != size:
                raise _incomplete(f"{arrived} of {size} bytes have arrived.")
            direct.finish(key, upload, dict(etags) | {number: part.etag for number, part in there.items()})
        except ObjectNotFound:
            raise _incomplete("its parts were dropped.") from None
    # What was verified must be what is copied: a signed URL may still be able to replace it in between.
    etag = direct.etag(key)
    if etag is None:
        raise _incomplete("nothing has arrived.")
    digest = hashlib.sha256()
    length = 0
    for piece in store.stream(key):
        digest.update(piece)
        length += len(piece)
    if digest.hexdigest() != sha256 or length != size:
        raise damaged
    try:
        direct.copy(key, Paths.input(sha256), etag)
    except ObjectNotFound:
        raise _incomplete("it was replaced while it was verified.") from None


def sweep_uploads(store: ObjectStore, before: datetime) -> int:
    """Remove what is left of uploads, to us or by us, that were begun before a moment; return how many pieces went.

    The moment must lie further back than any upload takes, or one that goes on is lost.
    """
    old = [info.key for info in store.list(Paths.uploads()) if info.modified < before]
    store.delete(old)
    direct = store.multiparts()
    if direct is None:
        return len(old)
    begun = [upload for root in Paths.roots() for upload in direct.begun(f"{root}/")]
    broken = [(key, upload) for key, upload, moment in begun if moment < before]
    for key, upload in broken:
        direct.abort(key, upload)
    return len(old) + len(broken)


def _drop(store: ObjectStore, sha256: str) -> None:
    store.delete([info.key for info in store.list(Paths.upload(sha256))])


def _incomplete(why: str) -> UploadIncomplete:
    return UploadIncomplete(f"the upload cannot be completed: {why}", fix="Ask again what is missing and send it.")


def _no_url(_: int) -> str | None:
    return None
