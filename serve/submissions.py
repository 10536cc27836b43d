"""Submitting one task; the answer comes when the store has it on disk."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from serve.admission import Wanted
from serve.auth import User
from serve.bodies import documented, json_body
from serve.examples import SWMM_TASK
from serve.intake import Intake, intake_of
from serve.machines import GroupMemory, memory_of
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simyard.task import Task, TaskSpec

KEY = r"^[!-~]{1,200}$"
"""What an idempotency key looks like."""

router = APIRouter(tags=["tasks"])

RequestKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY,
        description="1 to 200 visible characters; the same key again gives the same task.",
    ),
]
"""A parameter that receives the idempotency key of the request's header."""


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
    openapi_extra=documented(TaskSpec, swmm=SWMM_TASK),
)
async def submit(
    user: User,
    intake: Annotated[Intake, Depends(intake_of)],
    groups: Annotated[GroupMemory, Depends(memory_of)],
    spec: Annotated[TaskSpec, Depends(json_body(TaskSpec))],
    idempotency_key: RequestKey = None,
) -> Response:
    """Check the task, store it durably and answer with it; its input files must have been uploaded before.

    Simulator, parameters, group, resources and input files are checked before anything is stored.
    """
    submission = await intake.submit(user, Wanted(spec=spec, key=idempotency_key), await groups.recent())
    assert submission.record is not None
    headers = {"Location": f"/v1/tasks/{submission.record.id}"}
    return json_answer(submission.record.task, 201 if submission.created else 200, headers)
