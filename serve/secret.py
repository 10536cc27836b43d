"""The secrets that a server makes for itself, each in a file that only its owner may read."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from simyard.errors import InvalidInput
from storage.once import made_once
from storage.settings import Settings


def load_secret(settings: Settings) -> bytes:
    """Return the 32 bytes that sign the server's URLs, made at the first call."""
    return bytes.fromhex(_load(settings.server_dir / "secret", 32))


def load_token(settings: Settings) -> str:
    """Return the token that protects the server's Ray, made at the first call."""
    return _load(settings.server_dir / "token", 32)


def load_server_id(settings: Settings) -> str:
    """Return the id of the server of this data folder, made at the first call: 8 hexadecimal digits."""
    return _load(settings.server_dir / "id", 4)


def _load(path: Path, size: int) -> str:
    """Return as many random bytes as hexadecimal digits.

    Raises:
        InvalidInput: the file has something else, which would protect nothing.
    """
    text = made_once(path, lambda: secrets.token_hex(size)).strip()
    if re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text) is None:
        fix = "Stop the server and remove the file; the next start makes a new one."
        raise InvalidInput(f"The file {path} is damaged: it has not {2 * size} hexadecimal digits.", fix=fix)
    return text


def join_tokens_file(settings: Settings) -> Path:
    """Return the file with the hashes of the server's join tokens."""
    return settings.server_dir / "join-tokens.json"
