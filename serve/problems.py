"""Every refusal as problem+json: which field, why, and what to do about it."""

from __future__ import annotations

import difflib
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import Defect, MethodNotAllowed, RangeNotSatisfiable
from simyard.errors import InvalidInput, NotFound, SimyardError, Unauthorized, Unavailable
from simyard.problem import problem_of

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


def answer(error: SimyardError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that carries an error."""
    extra = dict(headers or {})
    if isinstance(error, Unauthorized):
        extra["WWW-Authenticate"] = 'Bearer realm="simyard"'
    if isinstance(error, RangeNotSatisfiable):
        extra["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, Unavailable):
        extra["Retry-After"] = "1"
    body = problem_of(error).model_dump_json()
    return Response(body, status_code=error.status, headers=extra, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of the application, its framework's included, a problem."""

    async def on_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, SimyardError)
        return answer(error)

    async def on_parameters(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(_from_parameters(error.errors()))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        where = f"{request.method} {request.url.path}"
        fix = "See /docs for what there is."
        if error.status_code == 404:
            return answer(NotFound(f"There is no {where}.", fix=fix))
        if error.status_code == 405:
            return answer(MethodNotAllowed(f"There is no {where}.", fix=fix), error.headers)
        return answer(InvalidInput(str(error.detail)), error.headers)

    app.add_exception_handler(SimyardError, on_error)
    app.add_exception_handler(RequestValidationError, on_parameters)
    app.add_exception_handler(HTTPException, on_http)
    app.add_middleware(Guard)


class Guard:
    """Answers an unexpected exception with a reference that the log has too, and shows nothing else of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; an exception after the answer began breaks the connection off."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            # Nobody is there to be answered.
            return
        except Exception:
            if started:
                raise
            reference = secrets.token_hex(6)
            _log.exception("Request %s %s failed, reference %s", scope["method"], scope["path"], reference)
            fix = f"Tell the operator the reference {reference}."
            await answer(Defect("Something went wrong inside the server.", fix=fix))(scope, receive, send)


class Shortcut:
    """Answers one busy operation by itself: on the way to it, routing and injection would cost more than its work.

    The operation takes the bare request and stands in the application too, which describes it.
    """

    def __init__(
        self, app: ASGIApp, *, method: str, path: str, operation: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._app = app
        self._method = method
        self._path = path
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the operation, its refusals included, and pass every other request on."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != self._method:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._operation(Request(scope, receive))
        except SimyardError as error:
            response = answer(error)
        await response(scope, receive, send)


def invalid(
    errors: Sequence[Mapping[str, Any]],
    model: type[BaseModel],
    body: bytes | bytearray,
    *,
    below: str = "",
    what: str = "body",
) -> InvalidInput:
    """Return the first of pydantic's complaints about a JSON text in our words: dotted field, reason and fix.

    `what` names the text in the complaint that it is no JSON; a field below `below` counts from there.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        reason = f"The {what} is not valid JSON: {first['ctx']['error']}."
        return InvalidInput(reason, fix="Send a JSON object; see /docs for an example.")
    field = _dotted(first["loc"], json.loads(body), added=first["type"] in {"missing", "extra_forbidden"})
    others = _others(errors, depth=2 if below else 1)
    if _is_value(errors):
        reason = f"It must be a text, a finite number, true or false, and not {_shown(first['input'])}."
        found = InvalidInput(reason + others, field=field, fix="Write it as a text.")
    else:
        # What is wrong with all of it names its field itself.
        named = None if field == below and first["type"] == "value_error" else field
        found = _complaint(first, named, others, names=_names(model, first["loc"][:-1]))
    return _from_below(found, below)


def _is_value(errors: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether the first complaints are about a value of parameters or metadata: there is one for each type."""
    first = errors[0]["loc"]
    return first[-1:] == ("str",) and (*first[:-1], "bool") in [error["loc"] for error in errors]


def _from_below(found: InvalidInput, below: str) -> InvalidInput:
    prefix = f"{below}."
    if below and found.field is not None and found.field.startswith(prefix):
        found.field = found.field.removeprefix(prefix)
    return found


def _from_parameters(errors: Sequence[Mapping[str, Any]]) -> InvalidInput:
    first = errors[0]
    return _complaint(first, str(first["loc"][1]) if len(first["loc"]) > 1 else None, _others(errors), names=())


def _others(errors: Sequence[Mapping[str, Any]], depth: int = 1) -> str:
    """Return how many other fields are wrong; `depth` is how much of a location names a field."""
    count = len({error["loc"] for error in errors if error["loc"][:depth] != errors[0]["loc"][:depth]})
    return f" {count} more field{'s are' if count > 1 else ' is'} wrong." if count else ""


def _dotted(location: Sequence[str | int], data: Any, *, added: bool) -> str | None:
    """Return the part of a location that exists in the data: pydantic puts names of types in its middle and its end."""
    parts: list[str] = []

    def is_inside(part: str | int) -> bool:
        return part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)

    for i, part in enumerate(location):
        inside = is_inside(part)
        if not inside and not (added and part == location[-1]):
            following = location[i + 1 : i + 2]
            if following and isinstance(data, dict) and (is_inside(following[0]) or (added and i + 2 == len(location))):
                continue
            break
        parts.append(str(part))
        data = data[part] if inside else None
    return ".".join(parts) or None


def _names(model: type[BaseModel], location: Sequence[str | int]) -> tuple[str, ...]:
    """Return the fields that exist where an unknown one was given, or nothing where that is not plain."""
    schema: Any = _schema(model)
    node = schema
    for part in location:
        node = _resolved(node, schema)
        node = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        if node is None:
            return ()
    return tuple(_resolved(node, schema).get("properties", ()))


@cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the schema of a model; it takes milliseconds to make, and a batch may hold ten thousand bad tasks."""
    return model.model_json_schema()


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref")
    return schema["$defs"][reference.rsplit("/", 1)[1]] if reference else node


def _complaint(error: Mapping[str, Any], field: str | None, others: str, *, names: Sequence[str]) -> InvalidInput:
    context, message = error.get("ctx", {}), str(error["msg"])
    fix: str | None
    match error["type"]:
        case "missing":
            message, fix = "This field is required.", "Add it."
        case "extra_forbidden":
            near = difflib.get_close_matches(str(error["loc"][-1]), names, n=1)
            message = "There is no such field."
            fix = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}." if names else "Leave it out."
        case "enum" | "literal_error":
            message, fix = f"{_shown(error['input'])} is not allowed.", f"Allowed: {context['expected']}."
        case "string_pattern_mismatch":
            message, fix = f"{_shown(error['input'])} has characters that are not allowed.", None
            fix = f"It must match {context['pattern']}"
        case "too_short":
            message, fix = f"It has {context['actual_length']} items.", f"Give at least {context['min_length']}."
        case "too_long":
            message, fix = "It has too many items.", f"Give at most {context['max_length']}."
        case "value_error":
            field, message, fix = _own(message.removeprefix("Value error, "), field)
        case _:
            message = f"{message.removesuffix('.')}, and not {_shown(error['input'])}."
            fix = "See /docs for the types and limits."
    return InvalidInput(message + others, field=field, fix=fix)


def _own(message: str, field: str | None) -> tuple[str | None, str, str | None]:
    """Split a message of our own types, `field: reason; fix`, of which all but the reason may be absent."""
    named = re.match(r"([a-z_]+): ", message) if field is None else None
    if named:
        field, message = named[1], message[named.end() :]
    reason, _, fix = message.rpartition("; ")
    if not reason:
        return field, message, None
    return field, reason + ".", fix[0].upper() + fix[1:] + "."


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, description in {
        401: "The API key is missing, wrong or expired.",
        404: "There is no such thing.",
        422: "A value in the request is not valid: the problem names field, reason and fix.",
    }.items()
}
"""What OpenAPI says of the refusals that most operations share."""
