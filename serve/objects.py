"""Objects by signed URL, for storages that cannot sign URLs themselves."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Request, Response

from serve.context import HasContext
from serve.problems import PROBLEMS
from serve.signed_urls import Signed
from serve.streams import range_answer
from simyard.errors import NotFound

router = APIRouter(tags=["outputs"], dependencies=[Signed])


@router.head("/v1/objects/{key:path}", include_in_schema=False)
@router.get(
    "/v1/objects/{key:path}",
    summary="Get an object by its signed URL",
    response_class=Response,
    responses={
        **{status: PROBLEMS[status] for status in (404, 422)},
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The part that `Range` asked for."},
        403: {"description": "The URL was changed, is not signed, or its time is over."},
        416: {"description": "The range lies outside of the object."},
    },
)
async def get_object(
    request: Request,
    context: HasContext,
    key: Annotated[str, Path(description="As it stands in a URL that the API handed out")],
    byte_range: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """Return an object's bytes, or a range of them; the URL itself is the permission and needs no API key."""
    info = await to_thread.run_sync(context.storage.head, key)
    if info is None:
        raise NotFound("There is no such object any more.", fix="Ask the API for a fresh list of outputs.")
    return await range_answer(
        byte_range,
        info.size,
        lambda start, length: context.storage.stream(key, start, length),
        media_type="application/octet-stream",
        headers={"Last-Modified": info.modified.strftime("%a, %d %b %Y %H:%M:%S GMT")},
        only_head=request.method == "HEAD",
    )
