"""A storage's own name, by which two machines know that they see the same one."""

from __future__ import annotations

import secrets
from contextlib import suppress

from storage.errors import AlreadyExists, ObjectNotFound
from storage.objects import ObjectStore
from storage.paths import Paths


def identity_of(storage: ObjectStore) -> str:
    """Return 32 hexadecimal digits that no other storage has, made at the first call.

    Raises:
        StorageUnavailable: it cannot do its work at present.
    """
    if (found := known_identity(storage)) is not None:
        return found
    with suppress(AlreadyExists):
        storage.put(Paths.identity(), secrets.token_hex(16).encode(), create=True)
    return storage.get(Paths.identity()).decode()


def known_identity(storage: ObjectStore) -> str | None:
    """Return the name that a storage has been given; None where it has none, and nothing is written.

    Raises:
        StorageUnavailable: it cannot do its work at present.
    """
    try:
        return storage.get(Paths.identity()).decode(errors="replace")
    except ObjectNotFound:
        return None
