"""API keys: 256 random bits that only their user knows; the store has their hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from simyard.errors import Unauthorized

PREFIX = "sy_"
"""What every key begins with, so that scanners find one that went astray."""
_BYTES = 32
_LENGTH = 64
_FIX = "Make a new key, or sign in again with `simyard login URL`."


@dataclass(frozen=True, kw_only=True)
class StoredKey:
    """What is kept of an API key; the key itself is shown once, when it is made."""

    id: str
    hash: str = field(repr=False)
    """SHA-256 of the key in hex. No salt: the key is random, so there is nothing to guess."""
    user: str
    created_at: datetime
    expires_at: datetime | None = None
    """None: it is valid until somebody revokes it."""


def new_key(user: str, now: datetime, expires_at: datetime | None = None) -> tuple[str, StoredKey]:
    """Return a fresh key and what to store of it."""
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    key = StoredKey(
        id="k" + secrets.token_hex(6), hash=hash_key(secret), user=user, created_at=now, expires_at=expires_at
    )
    return secret, key


def hash_key(secret: str) -> str:
    """Return the hash under which a key is stored."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def verify(secret: str, find_key: Callable[[str], StoredKey | None], now: datetime) -> StoredKey:
    """Return the stored key that a secret belongs to; `find_key` is the store's.

    Raises:
        Unauthorized: the secret is not a key, is unknown, was revoked, or has expired.
    """
    if not secret.startswith(PREFIX) or len(secret) > _LENGTH:
        raise Unauthorized("This is not an API key of Simyard.", fix=_FIX)
    hashed = hash_key(secret)
    key = find_key(hashed)
    if key is None or not hmac.compare_digest(key.hash, hashed):
        raise Unauthorized("The API key is unknown or was revoked.", fix=_FIX)
    if key.expires_at is not None and key.expires_at <= now:
        raise Unauthorized("The API key has expired.", fix=_FIX)
    return key
