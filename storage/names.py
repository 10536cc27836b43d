"""File names that are not valid UTF-8, in words that every client can hold."""

from __future__ import annotations

import os
from urllib.parse import quote_from_bytes

from storage.folder import Folder

_SAFE = "".join(map(chr, set(range(1, 128)) - {ord("%")}))


def readable(name: str) -> str:
    """Return a file system's name as valid text.

    A valid name comes out as it is. In any other one, each byte that is not ASCII and each `%` becomes `%` and two
    hexadecimal digits, so that `os.fsencode` of the name is what `urllib.parse.unquote_to_bytes` makes of the result.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return quote_from_bytes(os.fsencode(name), safe=_SAFE)
    return name


def readable_path(folder: Folder, path: str) -> str:
    """Return a path's readable form, with `~` behind it where a file has that very name."""
    name = readable(path)
    while name != path and folder.has(name):
        name += "~"
    return name
