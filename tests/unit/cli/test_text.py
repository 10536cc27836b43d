from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from simyard.cli.text import ago, cents, duration, plain, size, usd, used_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1023 * 1024, "0.999 MiB"), (2**31, "2 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.42, "0.42 s"),
        (9.9, "9.9 s"),
        (31.2, "31 s"),
        (59.9, "1 min"),
        (252, "4 min 12 s"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (1, "now"), (30, "30 s ago"), (125, "2 min ago"), (7300, "2 h ago"), (2e5, "2 d ago")],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_nothing_that_moves_the_cursor_is_printed() -> None:
    assert plain("a\x1b[2Jb\nc\td\udcff é☃") == "a\\x1b[2Jb\\nc\\td\\udcff é☃"


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00 USD"), (0.0042, "0.0042 USD"), (0.1, "0.10 USD"), (1234.567, "1234.57 USD")]
)
def test_dollars(amount: float, text: str) -> None:
    assert usd(amount) == text


def test_what_is_used_of_a_quota() -> None:
    assert used_of(2, 8) == "2 of 8"
    assert (used_of(2.346, None, cents), used_of(2.346, 800, cents)) == ("2.35", "2.35 of 800")
