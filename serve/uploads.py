"""Parts of input files, taken in at signed URLs where the storage has none of its own."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from serve.bodies import PART_LIMIT, documented, documented_bytes, json_body, read_body
from serve.context import HasContext
from serve.examples import COMPLETION
from serve.problems import PROBLEMS
from serve.signed_urls import Signed
from simyard.errors import InvalidInput
from simyard.words import Sha256, Word
from storage.uploads import complete_upload, write_part

router = APIRouter(tags=["inputs"], dependencies=[Signed])
_REFUSALS: dict[int | str, dict[str, Any]] = {
    403: {"description": "The URL was changed, is not signed, or its time is over."},
    413: {"description": "The body is too large."},
    422: PROBLEMS[422],
}

Hash = Annotated[Sha256, Path(description="Hash of the whole file")]


class Completion(Word):
    """What the storage answered to the parts."""

    etags: dict[Annotated[int, Field(ge=1, le=99_999)], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=10_000
    )
    """ETag of each part by its number."""


@router.put(
    "/v1/uploads/{sha256}/parts/{number}",
    summary="Send a part of an input file",
    status_code=200,
    response_class=Response,
    responses=_REFUSALS,
    openapi_extra=documented_bytes("Just the bytes of this part."),
)
async def send_part(
    request: Request,
    context: HasContext,
    sha256: Hash,
    number: Annotated[int, Path(ge=1, le=99_999)],
    size: Annotated[int, Query(ge=0, le=PART_LIMIT)],
) -> Response:
    """Store one part; the URL is the permission and says how many bytes it takes. Sending it again is fine."""
    data = await read_body(request, size, fix="Send just the bytes of this part.")
    if len(data) != size:
        raise InvalidInput(f"the part has {len(data)} bytes, and not {size}.", field="size", fix="Send it again.")
    await to_thread.run_sync(write_part, context.storage, sha256, number, data)
    etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return Response(headers={"ETag": f'"{etag}"'})


@router.post(
    "/v1/uploads/{sha256}:complete",
    summary="Complete an input file",
    status_code=204,
    response_class=Response,
    responses={**_REFUSALS, 409: {"description": "Parts are missing."}},
    openapi_extra=documented(Completion, one_part=COMPLETION),
)
async def complete(
    context: HasContext,
    sha256: Hash,
    size: Annotated[int, Query(ge=0)],
    completion: Annotated[Completion, Depends(json_body(Completion))],
    upload: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    """Make the file of its parts once their bytes are seen to have the hash; bytes that have not are dropped."""
    await to_thread.run_sync(complete_upload, context.storage, sha256, size, upload, completion.etags)
    return Response(status_code=204)
