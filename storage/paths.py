"""The names of all objects below a storage's root."""

from __future__ import annotations

import hashlib
import re

from storage.errors import InvalidKey

_MAX_KEY = 1024
_MAX_PART = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Paths:
    """Knows every key; nobody else joins key strings.

    The names that a manifest uses (`pack_name`, `file_name`, `log_name`) are relative to the attempt's prefix; `below`
    makes keys of them.
    """

    @staticmethod
    def roots() -> tuple[str, ...]:
        """Return the prefixes below which everything lies."""
        return ("inputs", "uploads", "tasks", "tables", "images")

    @staticmethod
    def identity() -> str:
        """Return the key of the storage's own name."""
        return "storage-id"

    @staticmethod
    def image(simulator: str, version: str, processor: str, recipe: str) -> str:
        """Return the key of a simulator's container image, built by that recipe for that kind of processor."""
        return f"images/{_name(simulator)}/{_name(version)}/{_name(processor)}/{_name(recipe)}.tar.zst"

    @staticmethod
    def image_note(simulator: str, version: str, processor: str, recipe: str) -> str:
        """Return the key of what is known of such an image."""
        return Paths.image(simulator, version, processor, recipe).removesuffix(".tar.zst") + ".json"

    @staticmethod
    def wanted_images(group: str) -> str:
        """Return the key of what tasks that wait for a machine group need of images."""
        return f"images/wanted/{_name(group)}.json"

    @staticmethod
    def input(sha256: str) -> str:
        """Return the key of an input file."""
        return f"inputs/{_hash(sha256)}"

    @staticmethod
    def uploads() -> str:
        """Return the prefix of all uploads in progress."""
        return "uploads"

    @staticmethod
    def upload(sha256: str) -> str:
        """Return the prefix of one upload in progress."""
        return f"uploads/{_hash(sha256)}"

    @staticmethod
    def upload_part(sha256: str, number: int) -> str:
        """Return the key of a part that the API received."""
        return f"uploads/{_hash(sha256)}/part-{number:05d}"

    @staticmethod
    def upload_object(sha256: str) -> str:
        """Return the key at which a direct upload waits until its hash is verified."""
        return f"uploads/{_hash(sha256)}/object"

    @staticmethod
    def task(task: str) -> str:
        """Return the prefix of everything that a task's attempts give out."""
        return f"tasks/{_name(task)}"

    @staticmethod
    def attempt(task: str, attempt: int) -> str:
        """Return the prefix of everything that an attempt gives out."""
        return f"{Paths.task(task)}/{attempt:d}"

    @staticmethod
    def attempt_of(key: str) -> int | None:
        """Return the number of the attempt that a key below a task's prefix belongs to; None where it tells none."""
        number = key.split("/")[2:3]
        return int(number[0]) if number and number[0].isdecimal() else None

    @staticmethod
    def below(task: str, attempt: int, name: str) -> str:
        """Return the key of an object that a manifest names.

        Raises:
            InvalidKey: the name leaves the attempt's prefix.
        """
        return check_key(f"{Paths.attempt(task, attempt)}/{name}")

    @staticmethod
    def manifest(task: str, attempt: int, snapshot: int | None = None) -> str:
        """Return the key of the manifest of an attempt, or of one of its snapshots."""
        return Paths.below(task, attempt, f"{Paths.snapshot_name(snapshot)}manifest.parquet")

    @staticmethod
    def snapshot_name(snapshot: int | None) -> str:
        """Return what the names of a snapshot's objects begin with, below the attempt's prefix; None is the result."""
        return "" if snapshot is None else f"snapshots/{snapshot:06d}/"

    @staticmethod
    def snapshot_of(key: str) -> tuple[int, int, str] | None:
        """Return attempt, number and the rest of the name of a snapshot's object; None for any other object."""
        parts = key.split("/", 5)
        if len(parts) < 6 or parts[3] != "snapshots" or not (parts[2].isdecimal() and parts[4].isdecimal()):
            return None
        return int(parts[2]), int(parts[4]), parts[5]

    @staticmethod
    def outcome(task: str, attempt: int) -> str:
        """Return the key at which an attempt says how it ended."""
        return f"{Paths.attempt(task, attempt)}/outcome.json"

    @staticmethod
    def pack_name(number: int) -> str:
        """Return a pack's name below the attempt's prefix."""
        return f"pack-{number:04d}.zip"

    @staticmethod
    def pack(task: str, attempt: int, number: int) -> str:
        """Return the key of a pack."""
        return f"{Paths.attempt(task, attempt)}/{Paths.pack_name(number)}"

    @staticmethod
    def file_name(path: str) -> str:
        """Return the name of a big file's object: its path, or a hash of it where a store could not hold the path."""
        if (
            not path.isprintable()
            or len(path.encode()) > 700
            or any(len(p.encode()) > _MAX_PART for p in path.split("/"))
        ):
            return f"odd-files/{hashlib.sha256(path.encode()).hexdigest()}"
        return f"files/{path}"

    @staticmethod
    def file(task: str, attempt: int, path: str) -> str:
        """Return the key of a big file."""
        return Paths.below(task, attempt, Paths.file_name(path))

    @staticmethod
    def log_name(name: str) -> str:
        """Return the name of a log's object below the attempt's prefix."""
        return f"logs/{_name(name)}"

    @staticmethod
    def log(task: str, attempt: int, name: str) -> str:
        """Return the key of a log."""
        return f"{Paths.attempt(task, attempt)}/{Paths.log_name(name)}"

    @staticmethod
    def table(table: str, simulator: str, project: str, task: str) -> str:
        """Return the key of a task's rows of a table; what all of them share stands in the folders' names."""
        parts = f"simulator={_name(simulator)}/project={_name(project)}/task={_name(task)}.parquet"
        return f"tables/{_name(table)}/{parts}"


def check_key(key: str) -> str:
    """Return the key when every store can hold it: plain parts between single slashes, at most 1024 bytes.

    Raises:
        InvalidKey: the key is empty or too long, or has a control character or an empty or dot part, or is not UTF-8.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"the key {key!r} is not valid UTF-8.") from None
    parts = key.split("/")
    if not 0 < size <= _MAX_KEY or _CONTROL.search(key) or any(part in {"", ".", ".."} for part in parts):
        raise InvalidKey(
            f"{key[:200]!r} is no key: it is empty or too long, or has a control character or an empty or dot part."
        )
    if any(len(part.encode()) > _MAX_PART for part in parts):
        raise InvalidKey(f"the key {key[:200]!r} has a part of more than {_MAX_PART} bytes.")
    return key


def _hash(sha256: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InvalidKey(f"{sha256[:100]!r} is not a SHA-256 hash in hexadecimal.")
    return sha256


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", name):
        raise InvalidKey(f"{name[:100]!r} cannot be a part of a key.")
    return name
