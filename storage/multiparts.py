"""Uploads that go past us: signed URLs for the parts of an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class StoredPart:
    """A part that the storage has received."""

    etag: str
    size: int
    """Bytes."""


class Multiparts(Protocol):
    """What a storage with signed URLs can do for uploads; every method may raise `StorageUnavailable`."""

    def sign_put(self, key: str, seconds: int) -> str:
        """Return a URL that takes a whole object."""

    def find(self, key: str) -> str | None:
        """Return the newest upload in parts that was begun for a key; None when there is none."""

    def begin(self, key: str) -> str:
        """Begin an upload in parts and return its id."""

    def parts(self, key: str, upload: str) -> dict[int, StoredPart]:
        """Return the parts that have arrived, by number.

        Raises:
            ObjectNotFound: there is no such upload.
        """

    def sign_part(self, key: str, upload: str, number: int, seconds: int) -> str:
        """Return a URL that takes one part."""

    def finish(self, key: str, upload: str, etags: Mapping[int, str]) -> None:
        """Make one object of the parts.

        Raises:
            ObjectNotFound: there is no such upload.
        """

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload and its parts; an unknown one is fine."""

    def begun(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Give key, upload and start of every upload below a prefix."""

    def etag(self, key: str) -> str | None:
        """Return what changes when the object changes; None when there is no object."""

    def copy(self, source: str, target: str, etag: str) -> None:
        """Copy an object inside the storage, provided that it still has this etag.

        Raises:
            ObjectNotFound: there is no such object, or it has changed.
        """
