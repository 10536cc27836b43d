"""A store that misbehaves."""

from __future__ import annotations

from storage.errors import StorageUnavailable
from storage.memory import MemoryStore
from storage.objects import Body, pieces_of


class FlakyStore(MemoryStore):
    """A store whose first `failures` writes fail: after taking a part of the body, or after having written it all."""

    def __init__(self, failures: int, *, after_writing: bool = False) -> None:
        super().__init__()
        self.failures, self.after_writing = failures, after_writing
        self.puts = 0

    def put(self, key: str, data: Body, *, create: bool = False, size: int | None = None) -> None:
        self.puts += 1
        if self.failures > 0:
            self.failures -= 1
            if self.after_writing:
                super().put(key, data, create=create, size=size)
            else:
                # What was taken is lost: pieces are taken once.
                next(iter(pieces_of(data)), None)
            raise StorageUnavailable("the network went away.")
        super().put(key, data, create=create, size=size)
