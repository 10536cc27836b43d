"""Submitting one task; the answer comes when the store has it on disk."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.admission import Wanted
from serve.auth import SIGNED_IN, signed_in
from serve.bodies import documented, json_body
from serve.examples import SWMM_TASK
from serve.intake import intake_of
from serve.machines import memory_of
from serve.problems import PROBLEMS
from simyard.errors import InvalidInput
from simyard.task import Task, TaskSpec

KEY = r"^[!-~]{1,200}$"
"""What an idempotency key looks like."""

router = APIRouter(tags=["tasks"])

_KEY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": KEY},
    "description": "1 to 200 visible characters; the same key again gives the same task.",
}
_read_spec = json_body(TaskSpec)


@router.post(
    "/v1/tasks",
    summary="Submit a task",
    response_model=Task,
    status_code=201,
    responses={
        **PROBLEMS,
        200: {"description": "The same request was accepted before: this is its task.", "model": Task},
        409: {"description": "The idempotency key was used for another request."},
        413: {"description": "The body is too large."},
    },
    openapi_extra=documented(TaskSpec, swmm=SWMM_TASK) | {"parameters": [_KEY_HEADER], "security": SIGNED_IN},
)
async def submit(request: Request) -> Response:
    """Check the task, store it durably and answer with it; its input files must have been uploaded before.

    Simulator, parameters, group, resources and input files are checked before anything is stored.
    """
    # It takes the bare request: finding arguments for it would cost the framework more than all the rest costs us.
    user = await signed_in(request)
    key = request.headers.get("idempotency-key")
    if key is not None and re.fullmatch(KEY, key) is None:
        reason = "An idempotency key has 1 to 200 visible characters."
        raise InvalidInput(reason, field="Idempotency-Key", fix=f"It must match {KEY}")
    spec = await _read_spec(request)
    intake, groups = await intake_of(request), await memory_of(request)
    submission = await intake.submit(user, Wanted(spec=spec, key=key), await groups.recent())
    headers = {"Location": f"/v1/tasks/{submission.id}"}
    status = 201 if submission.created else 200
    return Response(submission.text, status_code=status, headers=headers, media_type="application/json")
