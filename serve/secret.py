"""The secrets that a server makes for itself, each in a file that only its owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

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
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(size))
    try:
        # A link is made only where no other process was first.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text().strip()


def join_tokens_file(settings: Settings) -> Path:
    """Return the file with the hashes of the server's join tokens."""
    return settings.server_dir / "join-tokens.json"
