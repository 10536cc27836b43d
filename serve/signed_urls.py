"""URLs that carry their own permission: signed with the server's secret, and valid for a while."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote, urlencode

from fastapi import Depends, Request

from serve.context import Context, HasContext
from serve.errors import Forbidden


def sign(context: Context, method: str, path: str, **parameters: str | int) -> str:
    """Return path and query of a URL that permits one method on one path with just these parameters.

    The path is given as it is meant, not percent-encoded; the result is relative to the server's own address.
    """
    expires = context.clock() + timedelta(seconds=context.url_seconds)
    pairs = [*((name, str(value)) for name, value in parameters.items()), ("expires", str(int(expires.timestamp())))]
    signature = _signature(context.secret, method, path, pairs)
    return f"{quote(path, safe='/:')}?{urlencode([*pairs, ('signature', signature)])}"


def check(context: Context, method: str, path: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Return when the URL is as it was signed and its time is not over; what permits GET permits HEAD.

    Raises:
        Forbidden: the URL was changed, is not signed, or has expired.
    """
    given = [value for name, value in pairs if name == "signature"]
    rest = [(name, value) for name, value in pairs if name != "signature"]
    method = "GET" if method == "HEAD" else method
    expected = _signature(context.secret, method, path, rest)
    fix = "Ask the API for a fresh one."
    if len(given) != 1 or not hmac.compare_digest(given[0].encode(), expected.encode()):
        raise Forbidden("The URL is not signed by this server, or was changed.", field="signature", fix=fix)
    # Only a signed URL comes here, and each has exactly one expiry.
    if int(dict(rest)["expires"]) <= context.clock().timestamp():
        raise Forbidden("The URL's time is over.", field="expires", fix=fix)


def _signature(secret: bytes, method: str, path: str, pairs: Sequence[tuple[str, str]]) -> str:
    message = "\n".join(["simyard-url-1", method, quote(path), urlencode(sorted(pairs))])
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()


async def _permitted(request: Request, context: HasContext) -> None:
    check(context, request.method, request.scope["path"], request.query_params.multi_items())


Signed = Depends(_permitted)
"""A dependency that lets only requests with a valid signature through."""
