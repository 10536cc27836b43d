"""Objects by key: what every storage can do, and how one is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from storage.errors import InvalidKey, InvalidStorage

if TYPE_CHECKING:
    from storage.multiparts import Multiparts

CHUNK = 1024 * 1024
"""Bytes in which bodies are moved."""

Body = bytes | Path | Iterable[bytes]
"""What an object is made of: bytes, a file, or pieces that are taken once."""


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What a store says of an object."""

    key: str
    size: int
    """Bytes."""
    modified: datetime


class ObjectStore(Protocol):
    """A folder of objects; safe to use from several threads.

    Every method raises `StorageUnavailable` when the storage cannot do its work at present and `InvalidKey` for a key
    that `storage.paths.check_key` refuses.
    """

    uri: str

    def put(self, key: str, data: Body, *, create: bool = False, size: int | None = None) -> None:
        """Store an object whole or not at all; when it returns, the object is durable.

        Pieces are taken once: to try again, call again with fresh ones. `size` tells about how many bytes they hold
        (only where they may exceed 100 GiB does it matter). An error that the pieces raise passes through.

        Raises:
            AlreadyExists: `create` is set and the key has an object; of several creators exactly one succeeds.
        """

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of an object, or of that part of the range which the object has.

        Raises:
            ObjectNotFound: there is no such object.
        """

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = CHUNK) -> Iterator[bytes]:
        """Give the same bytes in pieces of about `chunk` bytes.

        Raises:
            ObjectNotFound: there is no such object.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object; None when there is none."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Give the objects below a prefix, which is a folder (`a/b` has `a/b/c`, not `a/bc`); all for an empty one."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; absent ones are fine."""

    def sign_get(self, key: str, seconds: int) -> str | None:
        """Return a URL that gives the object to whoever holds it; None where the store cannot sign."""

    def multiparts(self) -> Multiparts | None:
        """Return how parts of an object are uploaded past us; None where the store cannot sign."""


def open_store(uri: str) -> ObjectStore:
    """Return the store at a URI: `file:///folder`, `memory://name` or `s3://bucket/prefix`.

    S3's credentials, region and endpoint come from the usual `AWS_*` variables.

    Raises:
        InvalidStorage: the URI names no storage.
    """
    parts = urlsplit(uri)
    path = unquote(parts.path)
    # One line for each kind of storage; the imports are late so that a process pays only for its own.
    match parts.scheme:
        case "file" if parts.netloc in {"", "localhost"} and path.strip("/"):
            from storage.local import LocalStore

            return LocalStore(Path(path))
        case "memory" if parts.netloc:
            from storage.memory import MemoryStore

            return MemoryStore.named(parts.netloc + path.rstrip("/"))
        case "s3" if parts.netloc:
            from storage.s3 import S3Store

            return S3Store(parts.netloc, path.strip("/"))
    raise InvalidStorage(f"{uri!r} names no storage.", fix="Write file:///folder, memory://name or s3://bucket/prefix.")


def is_on_this_machine(uri: str) -> bool:
    """Say whether a storage is a folder or the memory of this machine, so that nothing is gained by a copy here."""
    return urlsplit(uri).scheme in {"file", "memory"}


def check_range(start: int, length: int | None) -> None:
    """Refuse a range that no store understands.

    Raises:
        InvalidKey: start or length is negative.
    """
    if start < 0 or (length is not None and length < 0):
        raise InvalidKey("a range must not be negative.")


def pieces_of(data: Body) -> Iterable[bytes]:
    """Return the pieces of a body."""
    if isinstance(data, bytes):
        return [data]
    return _file_pieces(data) if isinstance(data, Path) else data


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece
