"""Submissions that arrive at the same time share one transaction; each is answered once the disk has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from anyio import to_thread
from fastapi import Request

from serve.admission import Wanted, admit
from serve.context import Context
from simyard.errors import SimyardError
from simyard.group import MachineGroup
from tasks.record import Draft, Submission

_MOST = 64
"""Submissions of one transaction: more would hold the store longer than a single one may wait."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One submission that waits for its answer."""

    user: str
    wanted: Wanted
    groups: Sequence[MachineGroup] | None
    answer: asyncio.Future[Submission]


class Intake:
    """Takes single submissions; while one transaction is being written, those that arrive gather for the next."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[_Asked] = []
        self._work: asyncio.Task[None] | None = None

    async def submit(self, user: str, wanted: Wanted, groups: Sequence[MachineGroup] | None) -> Submission:
        """Return the submission's record once it is on disk.

        Raises:
            SimyardError: it is refused, or cannot be stored at present.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(user=user, wanted=wanted, groups=groups, answer=loop.create_future())
        self._waiting.append(asked)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._take_turns())
        return await asked.answer

    async def _take_turns(self) -> None:
        turn: list[_Asked] = []
        try:
            while self._waiting:
                turn, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                results = await to_thread.run_sync(self._store, turn)
                for asked, result in zip(turn, results, strict=True):
                    if asked.answer.done():
                        # Whoever asked has gone away meanwhile.
                        continue
                    if isinstance(result, Submission):
                        asked.answer.set_result(result)
                    else:
                        asked.answer.set_exception(result)
                if any(isinstance(result, Submission) for result in results):
                    # The answers go out first: the dispatcher may be given the core that would send them.
                    await asyncio.sleep(0)
                    await self._context.waker.wake()
        finally:
            # Only where the server is being stopped is anybody left.
            for asked in (*turn, *self._waiting):
                asked.answer.cancel()
            self._waiting = []

    def _store(self, turn: Sequence[_Asked]) -> list[Submission | Exception]:
        try:
            return self._store_together(turn)
        except SimyardError as error:
            return [error] * len(turn)
        except Exception as error:  # noqa: BLE001 - a defect is answered to whom it concerns, and logged there
            if len(turn) == 1:
                return [error]
            # Nothing of it was kept, so each is tried by itself: a defect that one of them meets is not the others'.
            _log.exception("%d submissions could not be stored together", len(turn))
            return [result for asked in turn for result in self._store([asked])]

    def _store_together(self, turn: Sequence[_Asked]) -> list[Submission | Exception]:
        results: list[Submission | Exception | None] = [None] * len(turn)
        drafts: dict[int, Draft] = {}
        # Those of one user and with the same knowledge of the groups are looked at together.
        alike: dict[tuple[str, int], list[int]] = {}
        for i, asked in enumerate(turn):
            alike.setdefault((asked.user, id(asked.groups)), []).append(i)
        for (user, _), places in alike.items():
            admitted = admit(
                [turn[i].wanted for i in places],
                user,
                turn[places[0]].groups,
                self._context.storage,
                self._context.store,
            )
            for i, draft in zip(places, admitted, strict=True):
                if isinstance(draft, Draft):
                    drafts[i] = draft
                else:
                    results[i] = draft
        if drafts:
            stored = self._context.store.submit(list(drafts.values()), self._context.clock())
            for i, submission in zip(drafts, stored, strict=True):
                results[i] = submission.error or submission
        return [result for result in results if result is not None]


async def intake_of(request: Request) -> Intake:
    """Return the intake of the application that answers the request."""
    return cast(Intake, request.app.state.intake)
