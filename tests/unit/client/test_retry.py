from __future__ import annotations

import pytest
from pydantic import ValidationError

from simyard.reason import ReasonCode
from simyard.resources import GIB, Resources
from simyard.retry import RETRYABLE, Retry
from simyard.submission import describe
from simyard.task import TaskSpec
from tests.unit.client.test_submission import FILE


@pytest.mark.parametrize("code", sorted(ReasonCode))
def test_without_a_rule_every_failure_that_can_be_is_tried_again(code: ReasonCode) -> None:
    assert Retry().covers(code, 1) is (code in RETRYABLE)


@pytest.mark.parametrize(
    ("code", "exit_code", "covered"),
    [
        (ReasonCode.SIGNAL, None, True),
        (ReasonCode.EXIT_CODE, 75, True),
        (ReasonCode.EXIT_CODE, 7, False),
        (ReasonCode.EXIT_CODE, None, False),
        (ReasonCode.OUT_OF_MEMORY, 75, False),
    ],
)
def test_a_rule_covers_what_it_names(code: ReasonCode, exit_code: int | None, covered: bool) -> None:
    assert Retry(on=("signal", "exit-code:75")).covers(code, exit_code) is covered


def test_the_reason_exit_code_covers_every_exit_code() -> None:
    assert Retry(on=("exit-code",)).covers(ReasonCode.EXIT_CODE, 3)


@pytest.mark.parametrize("text", [*sorted(RETRYABLE), "exit-code:1", "exit-code:75", "exit-code:255"])
def test_what_can_be_named(text: str) -> None:
    assert Retry(on=(text,)).on == (text,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exit-code:0", "1 to 255"),
        ("exit-code:256", "1 to 255"),
        ("exit-code:-1", "1 to 255"),
        ("exit-code:07", "1 to 255"),
        ("exit-code:", "1 to 255"),
        ("exit-code:7\n", "1 to 255"),
        ("out-of-memry", "the nearest is out-of-memory"),
        ("exitcode:3", "the nearest is exit-code"),
        ("Signal", "the nearest is signal"),
        ("", "take some of disk-full"),
        ("everything", "exit-code:255"),
        ("machine-lost", "whatever is said here"),
        ("preempted", "whatever is said here"),
        ("time-limit", "never tried again"),
        ("internal", "never tried again"),
    ],
)
def test_what_cannot_be_named_is_refused_with_what_can(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Retry(on=(text,))


def test_a_rule_that_names_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        Retry(on=())


def test_memory_that_could_never_be_asked_for_is_refused() -> None:
    with pytest.raises(ValidationError, match="add it to `on`"):
        Retry(on=("signal",), memory=GIB)
    spec = {"simulator": "swmm", "inputs": (FILE,), "retries": 1, "resources": Resources(memory=2 * GIB)}
    with pytest.raises(ValidationError, match="no more than the task has"):
        TaskSpec.model_validate(spec | {"retry": {"memory": "2GiB"}})
    assert TaskSpec.model_validate(spec | {"retry": {"memory": "3GiB"}}).retry.memory == 3 * GIB


def test_a_rule_without_retries_is_refused() -> None:
    with pytest.raises(ValidationError, match="give a number of retries"):
        TaskSpec(simulator="swmm", inputs=(FILE,), retry=Retry(on=("signal",)))


def test_a_mapping_says_the_same_as_a_rule() -> None:
    for retry in ({"on": ["signal"], "memory": None}, Retry(on=("signal",))):
        assert describe("swmm", [FILE], retries=1, retry=retry).retry == Retry(on=("signal",))
    assert describe("swmm", [FILE]).retry == Retry()
