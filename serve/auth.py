"""Sign-in with API keys: `Authorization: Bearer sy_…`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, cast

from anyio import to_thread
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serve.context import Context
from simyard.errors import Unauthorized
from tasks.keys import StoredKey, hash_key, verify

_REMEMBERED = timedelta(seconds=2)
_MOST = 1024
_bearer = HTTPBearer(auto_error=False, scheme_name="api-key", description="An API key of Simyard: `sy_…`.")
SIGNED_IN: list[dict[str, list[str]]] = [{_bearer.scheme_name: []}]
"""What OpenAPI says of an operation that needs a key, where it does not take `User`."""


class Doorkeeper:
    """Remembers good keys for a moment, so that not every request reads the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, tuple[datetime, StoredKey]] = {}

    async def user_of(self, secret: str) -> str:
        """Return the user whose key it is.

        Raises:
            Unauthorized: it is no key, or is unknown, revoked or expired.
        """
        now, hashed = self._context.clock(), hash_key(secret)
        since, key = self._known.get(hashed, (None, None))
        if key is not None and since is not None and since <= now < since + _REMEMBERED:
            return verify(secret, lambda _: key, now).user
        self._known.pop(hashed, None)
        key = await to_thread.run_sync(verify, secret, self._context.store.find_key, now)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[hashed] = (now, key)
        return key.user


async def signed_in(request: Request) -> str:
    """Return the user whose key the request carries.

    Raises:
        Unauthorized: it carries none, or one that is not good.
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        fix = "Send the header `Authorization: Bearer sy_…`."
        raise Unauthorized("The request has no API key.", field="Authorization", fix=fix)
    doorkeeper = cast(Doorkeeper, request.app.state.doorkeeper)
    return await doorkeeper.user_of(secret)


async def _signed_in(
    request: Request, _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> str:
    return await signed_in(request)


User = Annotated[str, Depends(_signed_in)]
"""A parameter that receives the name of the user; without a good key the request ends here."""
