"""Input files, and the rows of a manifest of outputs."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from simyard.words import Sha256, Word

MAX_FILES = 100_000
"""The most files that one task may take in or give out."""


def check_relative(path: str) -> str:
    """Return the path when it is relative, normal and stays inside its folder.

    Raises:
        ValueError: the path is empty, absolute, leaves the folder, or holds a NUL or an empty or dot part.
    """
    if not path or "\0" in path or len(path.encode(errors="surrogatepass")) > 4096:
        raise ValueError("a path must have 1 to 4096 bytes and no NUL; rename the file")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("a path must be valid UTF-8; rename the file") from None
    parts = path.split("/")
    if path.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{path!r} is not a plain relative path; leave out '/', '.' and '..' parts")
    if parts[0] == ".simyard":
        raise ValueError("the folder .simyard is Simyard's own; rename it")
    return path


RelativePath = Annotated[str, AfterValidator(check_relative)]
"""A path below a folder, with forward slashes."""


def has_glob(path: str) -> bool:
    """Say whether the text is a pattern and not one path."""
    return any(c in path for c in "*?[")


def matches(path: str, pattern: str) -> bool:
    """Say whether a path matches a glob: `*` and `?` stay inside one folder, `**` crosses them."""
    return _compiled(pattern).fullmatch(path) is not None


def _compiled(pattern: str) -> re.Pattern[str]:
    out, i = "", 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif pattern.startswith("**", i):
            out, i = out + ".*", i + 2
        elif pattern[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif pattern[i] == "?":
            out, i = out + "[^/]", i + 1
        else:
            out, i = out + re.escape(pattern[i]), i + 1
    return re.compile(out, re.DOTALL)


class InputFile(Word):
    """One file of a task's inputs, named by its content."""

    path: RelativePath
    sha256: Sha256
    size: int = Field(ge=0)
    """Bytes."""
    mode: int = Field(default=0o644, ge=0, le=0o777)
    """Permission bits."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


class Staged(Word):
    """Where the input files of an attempt came from."""

    fetched: int = Field(ge=0)
    """Bytes that came from the storage."""
    kept: int = Field(ge=0)
    """Bytes that the machine had kept of earlier tasks."""


class EntryKind(StrEnum):
    """What a row of the manifest is."""

    OUTPUT = "output"
    """A file that the simulation made or changed."""
    LOG = "log"
    """What the commands printed, and the samples of their resources."""


class Codec(StrEnum):
    """How the bytes of an entry lie in their object."""

    STORED = "stored"
    """As they are."""
    DEFLATE = "deflate"
    """A raw deflate stream (RFC 1951), as in a zip file."""


class ManifestEntry(Word):
    """One output file of an attempt, and where its bytes are."""

    path: str
    """The file's path below the task's folder. Logs have `.simyard/stdout.log` and `.simyard/stderr.log`."""
    kind: EntryKind = EntryKind.OUTPUT
    size: int = Field(ge=0)
    """Bytes of the file itself."""
    mtime_ns: int
    """Last change in nanoseconds since 1970."""
    mode: int
    """Permission bits."""
    link: str | None = None
    """Target of a symbolic link; such an entry has no bytes."""
    sha256: Sha256 | None = None
    """Hash of the file's bytes; None for a link."""
    object: str | None = None
    """Key of the object that holds the bytes, below the attempt's prefix: `pack-0000.zip` or `files/<path>`."""
    offset: int = 0
    """Where the bytes start in the object."""
    length: int = 0
    """How many bytes they take in the object."""
    codec: Codec = Codec.STORED
