"""Request bodies: counted while they arrive, made plain, and read as JSON; large ones away from the event loop."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError

from serve.encodings import DECODED_LIMIT, decoded
from serve.problems import invalid
from simyard.errors import TooLarge
from simyard.resources import MIB

JSON_LIMIT = 32 * MIB
"""Bytes of the largest JSON body as it is sent; decoded, it may have more."""
_SMALL = 64 * 1024
"""Bytes of a body that is read sooner than it is handed to a thread."""
PART_LIMIT = 16 * MIB
"""Bytes of the largest part of an upload, and of the largest input that is sent in one piece."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, limit: int, *, fix: str) -> bytes:
    """Return the request's body.

    Raises:
        TooLarge: the body has more bytes than the limit, by its header or by count.
    """
    error = TooLarge(f"The body is larger than {limit} bytes, the most that this endpoint takes.", fix=fix)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise error
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise error
    return b"".join(chunks)


async def read_json(request: Request) -> bytes | bytearray:
    """Return the JSON text of a request, decoded where `Content-Encoding` says so.

    A byte order mark before it, which programs of Windows write, is left out (RFC 8259, section 8.1).

    Raises:
        TooLarge: it is larger than JSON_LIMIT as it was sent, or than DECODED_LIMIT once it is plain.
        InvalidInput: it is not encoded as its header says.
    """
    body = await read_body(request, JSON_LIMIT, fix="Send fewer tasks or files in one request.")
    encoding = request.headers.get("content-encoding", "")
    text = await to_thread.run_sync(decoded, body, encoding, DECODED_LIMIT) if encoding else body
    return text.removeprefix(BOM_UTF8)


def parse(model: type[Model], body: bytes | bytearray) -> Model:
    """Return the value that a JSON text holds.

    Raises:
        InvalidInput: the text is no JSON, or a field has a bad value.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), model, body) from None


def json_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """Return a dependency that gives the request's JSON body as a value of the model."""

    async def read(request: Request) -> Model:
        body = await read_json(request)
        return parse(model, body) if len(body) <= _SMALL else await to_thread.run_sync(parse, model, body)

    return read


def documented(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """Return the OpenAPI part that describes a JSON body, with one or more named examples."""
    content = {
        "schema": {"$ref": f"#/components/schemas/{model.__name__}"},
        "examples": {name.replace("_", "-"): {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def documented_bytes(description: str) -> dict[str, Any]:
    """Return the OpenAPI part that describes a body of plain bytes."""
    schema = {"type": "string", "format": "binary"}
    content = {"application/octet-stream": {"schema": schema}}
    return {"requestBody": {"required": True, "description": description, "content": content}}
