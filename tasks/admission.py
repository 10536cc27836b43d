"""What a store answers to a draft that it knows already, and to a batch that goes in whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from simyard.errors import Conflict, SimyardError
from tasks.record import Draft, Submission, SweepDraft, SweepRecord


@dataclass(frozen=True, kw_only=True)
class Origin:
    """From which request a stored task came."""

    task: str
    user: str
    key: str | None
    digest: str


def conflict_of(draft: Draft, known: Origin) -> Conflict | None:
    """Return None when the draft repeats the request that made the known task, else the error that says so."""
    if (draft.user, draft.key, draft.digest) == (known.user, known.key, known.digest):
        return None
    if draft.key is not None and (draft.user, draft.key) == (known.user, known.key):
        return Conflict(
            f"The idempotency key {draft.key!r} was used for another request, which made task {known.task}.",
            field="idempotency_key",
            fix="Send the same request again, or give this one a key of its own.",
        )
    return Conflict(f"There is a task {known.task} already.", field="id", fix="Submit again; a new id is drawn.")


def sweep_conflict_of(draft: SweepDraft, known: SweepRecord) -> Conflict | None:
    """Return None when the draft repeats the request that made the known sweep, else the error that says so."""
    before = known.draft
    if (draft.user, draft.key, draft.digest) == (before.user, before.key, before.digest):
        return None
    if draft.key is not None and (draft.user, draft.key) == (before.user, before.key):
        return Conflict(
            f"The idempotency key {draft.key!r} was used for another request, which made sweep {known.id}.",
            field="idempotency_key",
            fix="Send the same request again, or give this one a key of its own.",
        )
    return Conflict(f"There is a sweep {known.id} already.", field="id", fix="Submit again; a new id is drawn.")


def case_conflict_of(answer: Submission) -> SimyardError | None:
    """Return None when the answer to a sweep's draft is a new task, else the error that keeps the sweep out."""
    if answer.id is None or answer.created:
        return answer.error
    return Conflict(f"Task {answer.id} was made before, and belongs to no new sweep.", field="id")


def none_accepted(answers: list[Submission]) -> list[Submission]:
    """Return the answers to an atomic batch of which at least one draft was refused: nothing was created."""
    error = Conflict(
        "Nothing was accepted: another task of this batch was refused, and the batch goes in whole or not at all.",
        fix="Correct the task that was refused and send the batch again.",
    )
    made = {answer.id for answer in answers if answer.created}
    return [
        # A draft that repeats another one of the batch was answered with a task that will not be there.
        Submission(error=error) if answer.created or (answer.id is not None and answer.id in made) else answer
        for answer in answers
    ]
