"""Join tokens: who has one may bring a machine into this server's Ray, and runs what it likes there.

They stand in a file of the server's own folder, as hashes: a token is good for the server whose Ray it opens, and for
no other that shares its database. An API key is no join token, and the other way round.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from simyard.errors import NotFound, Unauthorized
from tasks.keys import hash_key

PREFIX = "syj_"
"""What every join token begins with."""
_FIX = "The server's operator makes one with `simyard admin join-token create`."


@dataclass(frozen=True, kw_only=True)
class JoinToken:
    """What is kept of a join token; the token itself is shown once, when it is made."""

    id: str
    hash: str = field(repr=False)
    created_at: datetime
    expires_at: datetime


class JoinTokens:
    """The join tokens of a server, in a file that only its owner may read.

    Args:
        path: the file; absent until the first token is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, now: datetime, expires_at: datetime) -> tuple[str, JoinToken]:
        """Return a fresh token, and what is kept of it."""
        secret = PREFIX + secrets.token_urlsafe(32)
        made = JoinToken(id="j" + secrets.token_hex(4), hash=hash_key(secret), created_at=now, expires_at=expires_at)
        with self._alone():
            # Nobody asks for those any more that have expired.
            self._write([*(one for one in self.all() if one.expires_at > now), made])
        return secret, made

    def all(self) -> list[JoinToken]:
        """Return all tokens, oldest first."""
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return []
        moments = ("created_at", "expires_at")
        return [JoinToken(**one | {name: datetime.fromisoformat(one[name]) for name in moments}) for one in found]

    def revoke(self, token: str) -> None:
        """Forget the token with this id: nobody joins with it any more. Machines that have joined stay.

        Raises:
            NotFound: there is none.
        """
        with self._alone():
            kept = [one for one in self.all() if one.id != token]
            if len(kept) == len(self.all()):
                known = ", ".join(one.id for one in kept) or "none"
                raise NotFound(f"There is no join token {token!r}.", field="ID", fix=f"There are: {known}.")
            self._write(kept)

    def verify(self, secret: str, now: datetime) -> JoinToken:
        """Return the token that a secret is.

        Raises:
            Unauthorized: it is none, is unknown, was revoked, or has expired.
        """
        if not secret.startswith(PREFIX):
            raise Unauthorized("This is not a join token of Simyard.", fix=_FIX)
        hashed = hash_key(secret)
        found = next((one for one in self.all() if hmac.compare_digest(one.hash, hashed)), None)
        if found is None:
            raise Unauthorized("The join token is unknown or was revoked.", fix=_FIX)
        if found.expires_at <= now:
            raise Unauthorized("The join token has expired.", fix=_FIX)
        return found

    def _alone(self) -> FileLock:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(self._path.with_suffix(".lock"))

    def _write(self, tokens: list[JoinToken]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps([asdict(one) for one in tokens], default=datetime.isoformat))
        fresh.replace(self._path)
