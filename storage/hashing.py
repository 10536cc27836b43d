"""SHA-256 of bodies while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from simyard.errors import SimyardError


class Hashed:
    """Pieces that are counted and hashed while somebody takes them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            self.size += len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        """The hash of what has passed so far."""
        return self._hash.hexdigest()


def verified(pieces: Iterable[bytes], sha256: str, size: int | None, error: SimyardError) -> Iterator[bytes]:
    """Give the pieces, and raise the error at the end (or once they are too many) if they are other ones."""
    hashed = Hashed(pieces)
    for piece in hashed:
        if size is not None and hashed.size > size:
            raise error
        yield piece
    if hashed.sha256 != sha256 or (size is not None and hashed.size != size):
        raise error
