from __future__ import annotations

import pytest

from simyard.cli.lastline import LastLine


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"", ""),
        (b"one\ntwo\n", "two"),
        (b"one\ntwo", "two"),
        (b"10 %\r20 %\r", "20 %"),
        (b"10 %\r\n", "10 %"),
        (b" 10\b\b\b 20", "20"),
        (b"abc\b\b\b\b\b\bX", "Xbc"),
        (b"step 100\rstep 2", "step 200"),
        (b"\x1b[31mred\x1b[0m\n", "red"),
        (b"\x1b]0;title\x07text", "text"),
        ("größe ☃".encode(), "größe ☃"),
        (b"bad \xff byte", "bad \ufffd byte"),
        (b"bell\x07 null\x00 tab\tend", "bell null tab end"),
        (b"last words\n\n  \n", "last words"),
    ],
)
def test_the_line_is_what_a_terminal_shows(printed: bytes, shown: str) -> None:
    whole, pieces = LastLine(), LastLine()
    whole.feed(printed)
    for i in range(len(printed)):
        pieces.feed(printed[i : i + 1])
    assert whole.text == pieces.text == shown


def test_a_line_without_end_takes_little_memory() -> None:
    line = LastLine()
    for _ in range(1000):
        line.feed(b"x" * 10_000)
    assert len(line.text) <= 400
