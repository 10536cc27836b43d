"""When a machine switches itself off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster.join import LOST_SECONDS, OVER_SECONDS, Watchdog

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_it_goes_on_while_its_head_answers_or_was_heard_a_short_time_ago() -> None:
    dog = Watchdog.of({})
    assert dog.why_off(NOW, 0) is None
    assert dog.why_off(NOW + timedelta(days=9999), LOST_SECONDS) is None
    assert dog.why_off(NOW, LOST_SECONDS + 1) == "the head has not answered for 601 s"


def test_the_plan_says_how_long_the_head_may_be_silent() -> None:
    dog = Watchdog.of({"lost_seconds": 5})
    assert dog.why_off(NOW, 5) is None
    assert dog.why_off(NOW, 5.5) is not None


def test_after_the_moment_that_the_plan_says_a_short_silence_is_enough() -> None:
    dog = Watchdog.of({"ends_at": "2026-03-01T13:00:00+01:00"})
    assert dog.why_off(NOW - timedelta(seconds=1), OVER_SECONDS + 1) is None
    assert dog.why_off(NOW, OVER_SECONDS) is None, "the head may have moved its end"
    told = dog.why_off(NOW, OVER_SECONDS + 1)
    assert told == "its time is over since 2026-03-01T13:00:00+01:00, and the head does not answer"
    assert Watchdog.of({"ends_at": None}).why_off(NOW, OVER_SECONDS + 1) is None


@pytest.mark.parametrize("ends_at", ["soon", "2026-03-01T13:00:00"])
def test_a_moment_that_is_none_is_not_taken_for_never(ends_at: str) -> None:
    with pytest.raises(ValueError, match=ends_at):
        Watchdog.of({"ends_at": ends_at})
