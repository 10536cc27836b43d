"""Input files on their way in: small ones in one piece, and what is missing of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from serve.auth import User
from serve.bodies import PART_LIMIT, documented, documented_bytes, json_body, read_body
from serve.context import Context, HasContext
from serve.examples import NEGOTIATION
from serve.problems import PROBLEMS
from serve.signed_urls import sign
from serve.streams import json_answer
from simyard.errors import InvalidInput
from simyard.files import MAX_FILES
from simyard.words import Sha256, Word
from storage.inputs import put_input, stored_sizes
from storage.parallel import each
from storage.uploads import UploadPlan, plan_upload

router = APIRouter(tags=["inputs"])
MAX_SIZE = 5 * 1024**4
"""Bytes of the largest input file: the largest object of S3."""


class StoredInput(Word):
    """An input file in the storage."""

    sha256: Sha256
    size: int = Field(ge=0, le=MAX_SIZE)
    """Bytes."""


class Negotiation(Word):
    """The input files that a client has."""

    files: tuple[StoredInput, ...] = Field(max_length=MAX_FILES)


class Part(Word):
    """A part of a file that is to be sent by PUT, with just these bytes."""

    number: int
    """Counted from 1."""
    size: int
    """Bytes."""
    url: str
    """Signed, needs no key; relative to the server's address, or absolute where it leads to the storage itself."""
    headers: dict[str, str] = Field(default_factory=dict)
    """To be sent along."""


class Upload(Word):
    """What is still to be sent of one file."""

    sha256: Sha256
    size: int
    part_size: int
    """Bytes of every part but the last."""
    upload: str | None
    """The storage's own name for it."""
    parts: tuple[Part, ...]
    """Those that are missing."""
    complete: str | None
    """Where to POST the parts' ETags afterwards; signed, needs no key."""


class Uploads(Word):
    """What is still to be sent; files that are not named are there."""

    uploads: tuple[Upload, ...]


@router.post(
    "/v1/inputs",
    summary="Send a small input file",
    response_model=StoredInput,
    status_code=201,
    responses={**PROBLEMS, 413: {"description": "The file is larger than 16 MiB."}},
    openapi_extra=documented_bytes("The file itself, at most 16 MiB."),
)
async def send_input(request: Request, context: HasContext, _user: User) -> Response:
    """Store a file of at most 16 MiB and return its hash, which tasks name it by."""
    data = await read_body(request, PART_LIMIT, fix="Send larger files in parts: POST /v1/inputs:negotiate.")
    sha256 = await to_thread.run_sync(put_input, context.storage, data)
    return json_answer(StoredInput(sha256=sha256, size=len(data)), 201)


@router.post(
    "/v1/inputs:negotiate",
    summary="Ask which input files are missing",
    response_model=Uploads,
    responses={**PROBLEMS, 413: {"description": "The body is too large."}},
    openapi_extra=documented(Negotiation, one_file=NEGOTIATION),
)
async def negotiate(
    context: HasContext, _user: User, wanted: Annotated[Negotiation, Depends(json_body(Negotiation))]
) -> Response:
    """Return, for each file that the storage lacks, where to send its parts; asking again resumes an upload."""
    return await to_thread.run_sync(lambda: json_answer(Uploads(uploads=tuple(_plan(context, wanted.files)))))


def _plan(context: Context, files: Sequence[StoredInput]) -> list[Upload]:
    sizes: dict[str, int] = {}
    for i, file in enumerate(files):
        if sizes.setdefault(file.sha256, file.size) != file.size:
            fix = "Send the size of the file with this hash."
            raise InvalidInput("the same hash has two sizes.", field=f"files.{i}.size", fix=fix)
    stored = stored_sizes(context.storage, sizes)
    missing = [sha256 for sha256 in sizes if stored[sha256] is None]
    plans = each(
        lambda sha256: plan_upload(context.storage, sha256, sizes[sha256], context.url_seconds), missing, threads=16
    )
    return [_upload(context, plan) for plan in plans]


def _upload(context: Context, plan: UploadPlan) -> Upload:
    parts = tuple(
        Part(
            number=part.number,
            size=part.size,
            url=part.url or sign(context, "PUT", f"/v1/uploads/{plan.sha256}/parts/{part.number}", size=part.size),
        )
        for part in plan.parts
    )
    about = {} if plan.upload is None else {"upload": plan.upload}
    return Upload(
        sha256=plan.sha256,
        size=plan.size,
        part_size=plan.part_size,
        upload=plan.upload,
        parts=parts,
        complete=sign(context, "POST", f"/v1/uploads/{plan.sha256}:complete", size=plan.size, **about),
    )
