"""Small files that are made once and stay: whole and on disk before anybody can see them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def made_once(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a file that only its owner may read, which is made at the first call.

    Of several processes that make it at a time all get the text of the first. Neither a crash nor a power failure
    leaves an empty one.
    """
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        # A link is made only where no other process was first.
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8")
