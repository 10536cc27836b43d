"""Which tasks and sweeps a user may see: those that the same user submitted."""

from __future__ import annotations

import re
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Path

from serve.auth import User
from serve.context import HasContext
from simyard.errors import NotFound
from tasks.record import SweepRecord, TaskRecord

TASK_ID = re.compile(r"t[0-9a-hjkmnp-tv-z]{12}")
_SWEEP = re.compile(r"s[0-9a-hjkmnp-tv-z]{12}")


async def own_record(
    task: Annotated[str, Path(description="The task's id.", examples=["t3k9x0m2v7q4a"])],
    context: HasContext,
    user: User,
) -> TaskRecord:
    """Return the user's task; another user's task is as if it did not exist.

    Raises:
        NotFound: the user has no such task.
    """
    missing = NotFound(f"There is no task {task[:100]!r}.", field="task", fix="GET /v1/tasks lists your tasks.")
    if not TASK_ID.fullmatch(task):
        raise missing
    try:
        record = await to_thread.run_sync(context.store.get, task)
    except NotFound:
        raise missing from None
    if record.user != user:
        raise missing
    return record


OwnTask = Annotated[TaskRecord, Depends(own_record)]
"""A parameter that receives the task of the path, when it is the user's."""


async def own_sweep(
    sweep: Annotated[str, Path(description="The sweep's id.", examples=["s3k9x0m2v7q4a"])],
    context: HasContext,
    user: User,
) -> SweepRecord:
    """Return the user's sweep; another user's sweep is as if it did not exist.

    Raises:
        NotFound: the user has no such sweep.
    """
    missing = NotFound(f"There is no sweep {sweep[:100]!r}.", field="sweep", fix="GET /v1/sweeps lists your sweeps.")
    if not _SWEEP.fullmatch(sweep):
        raise missing
    try:
        record = await to_thread.run_sync(context.store.get_sweep, sweep)
    except NotFound:
        raise missing from None
    if record.draft.user != user:
        raise missing
    return record


OwnSweep = Annotated[SweepRecord, Depends(own_sweep)]
"""A parameter that receives the sweep of the path, when it is the user's."""
