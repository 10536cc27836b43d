"""Which failures a task's `retries` pay for, and what is different the next time."""

from __future__ import annotations

import difflib
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from simyard.reason import ReasonCode
from simyard.resources import MIB, parse_size
from simyard.words import Word

RETRYABLE = frozenset(
    {
        ReasonCode.EXIT_CODE,
        ReasonCode.SIGNAL,
        ReasonCode.OUT_OF_MEMORY,
        ReasonCode.DISK_FULL,
        ReasonCode.IMAGE_ERROR,
        ReasonCode.INPUT_ERROR,
        ReasonCode.OUTPUT_ERROR,
    }
)
"""Failures that `retries` can pay for."""
_EXIT_CODE = re.compile(r"exit-code:([1-9][0-9]{0,2})")
_LARGEST_EXIT_CODE = 255


def check_cause(text: str) -> str:
    """Return the text when it names a failure that can be tried again: `signal`, or `exit-code:75` for one exit code.

    Raises:
        ValueError: it does not; what it may be meant to say stands behind a semicolon.
    """
    names = sorted(RETRYABLE)
    if text in names:
        return text
    if text.startswith(f"{ReasonCode.EXIT_CODE}:"):
        match = _EXIT_CODE.fullmatch(text)
        if match is None or int(match[1]) > _LARGEST_EXIT_CODE:
            raise ValueError(f"{text!r} names no exit code of a failure; they go from 1 to {_LARGEST_EXIT_CODE}")
        return text
    if text in {ReasonCode.MACHINE_LOST, ReasonCode.PREEMPTED}:
        raise ValueError(f"{text!r} is tried again whatever is said here; leave it out")
    if text in set(ReasonCode):
        raise ValueError(f"{text!r} is never tried again; take some of {', '.join(names)}")
    near = difflib.get_close_matches(text, [*names, f"{ReasonCode.EXIT_CODE}:1"], n=1)
    hint = f"the nearest is {near[0]}" if near else f"take some of {', '.join(names)}, or exit-code:1 to exit-code:255"
    raise ValueError(f"{text!r} is no reason of a failure; {hint}")


class Retry(Word):
    """Which failures are tried again, as often as `retries` says, and how."""

    on: (
        Annotated[tuple[Annotated[str, AfterValidator(check_cause)], ...], Field(min_length=1, max_length=100)] | None
    ) = None
    """Reasons such as `signal`, and exit codes such as `exit-code:75`; None means every failure that can be."""
    memory: Annotated[int, BeforeValidator(parse_size), Field(ge=16 * MIB)] | None = None
    """After `out-of-memory`, the next attempt asks for twice as much, up to these bytes; None asks for the same."""

    @model_validator(mode="after")
    def _memory_has_a_cause(self) -> Retry:
        if self.memory is not None and not self.covers(ReasonCode.OUT_OF_MEMORY, None):
            raise ValueError("`memory` counts after out-of-memory, which `on` leaves out; add it to `on`")
        return self

    def covers(self, code: ReasonCode, exit_code: int | None) -> bool:
        """Say whether a failure for this reason, with this exit code, is one of those that are tried again."""
        if code not in RETRYABLE:
            return False
        return (
            self.on is None
            or code in self.on
            or (code is ReasonCode.EXIT_CODE and f"{ReasonCode.EXIT_CODE}:{exit_code}" in self.on)
        )
