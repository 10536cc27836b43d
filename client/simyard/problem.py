"""The body of every error answer: problem+json (RFC 9457) with field, reason and fix."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from simyard import errors


class Problem(BaseModel):
    """An error as the API answers it."""

    model_config = ConfigDict(frozen=True)

    type: str
    """`urn:simyard:problem:` and the kind of the error, such as `invalid-input`."""
    title: str
    status: int
    detail: str
    """The reason, in a sentence."""
    field: str | None = None
    """The dotted path of the field that is wrong."""
    fix: str | None = None
    """What to do about it."""


_PREFIX = "urn:simyard:problem:"


def problem_of(error: errors.SimyardError) -> Problem:
    """Return the answer that carries an error."""
    title = (type(error).__doc__ or "").splitlines()[0]
    return Problem(
        type=_PREFIX + error.kind,
        title=title,
        status=error.status,
        detail=error.reason,
        field=error.field,
        fix=error.fix,
    )


def error_of(problem: Problem) -> errors.SimyardError:
    """Return the error that an answer carries; an unknown kind becomes the base error."""
    for error in (
        errors.InvalidInput,
        errors.InputsMissing,
        errors.NotFound,
        errors.Conflict,
        errors.Unauthorized,
        errors.NotYours,
        errors.TooLarge,
        errors.Unavailable,
    ):
        if problem.type == _PREFIX + error.kind:
            return error(problem.detail, field=problem.field, fix=problem.fix)
    return errors.SimyardError(problem.detail, field=problem.field, fix=problem.fix)
