"""Objects in this process's memory: for tests, and the twin that says what the others must do."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from storage.errors import AlreadyExists, ObjectNotFound
from storage.objects import CHUNK, Body, ObjectInfo, check_range, pieces_of
from storage.paths import check_key


@dataclass(frozen=True)
class _Object:
    data: bytes
    modified: datetime


class MemoryStore:
    """Objects in a dictionary; stores of one name share their objects within the process."""

    _named: ClassVar[dict[str, MemoryStore]] = {}
    _naming: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, uri: str = "memory://unnamed") -> None:
        self.uri = uri
        self._objects: dict[str, _Object] = {}
        self._lock = threading.Lock()

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """Return the one store of this name."""
        with cls._naming:
            return cls._named.setdefault(name, cls(f"memory://{name}"))

    def put(self, key: str, data: Body, *, create: bool = False, size: int | None = None) -> None:
        """Store an object; see `ObjectStore.put`."""
        check_key(key)
        whole = b"".join(pieces_of(data))
        with self._lock:
            if create and key in self._objects:
                raise AlreadyExists(f"{key} is already there.")
            self._objects[key] = _Object(whole, datetime.now(UTC))

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see `ObjectStore.get`."""
        check_range(start, length)
        found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectNotFound(f"There is no object {key}.")
        return found.data[start : None if length is None else start + length]

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = CHUNK) -> Iterator[bytes]:
        """Give bytes of an object in pieces; see `ObjectStore.stream`."""
        data = self.get(key, start, length)
        return (data[i : i + chunk] for i in range(0, len(data), chunk))

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object."""
        found = self._objects.get(check_key(key))
        return None if found is None else ObjectInfo(key=key, size=len(found.data), modified=found.modified)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Give the objects below a prefix; see `ObjectStore.list`."""
        with self._lock:
            found = sorted(self._objects.items())
        below = f"{check_key(prefix)}/" if prefix else ""
        for key, thing in found:
            if key.startswith(below):
                yield ObjectInfo(key=key, size=len(thing.data), modified=thing.modified)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; absent ones are fine."""
        for key in [check_key(key) for key in keys]:
            with self._lock:
                self._objects.pop(key, None)

    def sign_get(self, key: str, seconds: int) -> None:
        """Return None: this store cannot sign."""

    def multiparts(self) -> None:
        """Return None: this store cannot sign."""
