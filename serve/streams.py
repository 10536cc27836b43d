"""Bytes on their way out: in bounded pieces, made away from the event loop, and ended when nobody reads them."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import quote

from anyio import to_thread
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from serve.errors import RangeNotSatisfiable

T = TypeVar("T")
_END = object()


async def pieces(open_iterator: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """Return a stream of an iterator that blocks; its first piece has been made when this returns.

    So an error before the first byte can still be answered as a problem. The last piece is held back until the
    iterator has ended well: an error at the very end, such as a wrong checksum, breaks the answer off before it looks
    complete.
    """
    iterator = await to_thread.run_sync(open_iterator)
    first = await to_thread.run_sync(next, iterator, _END)

    async def rest() -> AsyncIterator[bytes]:
        piece = first
        try:
            while isinstance(piece, bytes):
                following = await to_thread.run_sync(next, iterator, _END)
                yield piece
                piece = following
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    return rest()


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and length of the range that a `Range` header asks for; None where the whole is to be sent.

    A header that is not one plain range of bytes is ignored, as HTTP allows.

    Raises:
        RangeNotSatisfiable: the range starts at or after the end.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").replace(" ", ""), re.ASCII)
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size - 1
    else:
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(size)
    return start, end - start + 1


async def range_answer(
    range_header: str | None,
    size: int,
    read: Callable[[int, int], Iterator[bytes]],
    *,
    media_type: str,
    headers: Mapping[str, str],
    only_head: bool = False,
) -> Response:
    """Return the whole of something or the range of it that was asked for; `read` takes start and length."""
    span = parse_range(range_header, size)
    start, length = span or (0, size)
    every = {
        # As a header, so that nobody adds a character set that the file may not have.
        "Content-Type": media_type,
        "Content-Length": str(length),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    if span:
        every["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    status = 206 if span else 200
    if only_head or length == 0:
        return Response(status_code=status, headers=every)
    body = await pieces(lambda: read(start, length))
    return StreamingResponse(body, status_code=status, headers=every)


def media_type_of(name: str) -> str:
    """Return a guess of a file's media type by its name."""
    guessed, encoding = mimetypes.guess_type(name, strict=False)
    return guessed if guessed and not encoding else "application/octet-stream"


def attachment(name: str) -> dict[str, str]:
    """Return the header that makes a browser save a file under a name, whatever characters it has."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"}


def json_answer(value: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as a JSON answer; called in a thread, it keeps large answers off the event loop."""
    return Response(
        value.__pydantic_serializer__.to_json(value), status_code=status, headers=headers, media_type="application/json"
    )
