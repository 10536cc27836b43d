"""The line that a terminal would show last, of what a program printed."""

from __future__ import annotations

import codecs
import re

_LONGEST = 400
_MUCH = 8192
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


class LastLine:
    """Takes in output piece by piece; carriage returns and backspaces overwrite, as progress displays mean them to."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._cells: list[str] = []
        self._column = 0
        self._whole = ""

    def feed(self, data: bytes) -> None:
        """Take in more output."""
        text = self._pending + self._decoder.decode(data)
        if len(text) > _MUCH:
            # Nobody can see more than the end of a flood.
            text = text[-_MUCH:]
        # An escape sequence may be cut in two.
        start = text.rfind("\x1b", max(0, len(text) - 32))
        cut = start if start >= 0 and not _ESCAPES.match(text, start) else len(text)
        text, self._pending = text[:cut], text[cut:]
        for c in _ESCAPES.sub("", text):
            self._put(c)

    def _put(self, c: str) -> None:
        if c == "\n":
            self._keep()
            self._cells, self._column = [], 0
        elif c == "\r":
            self._keep()
            self._column = 0
        elif c == "\b":
            self._column = max(0, self._column - 1)
        elif c == "\t":
            self._put(" ")
        elif c.isprintable() and self._column < _LONGEST:
            self._cells[self._column : self._column + 1] = [c]
            self._column += 1

    def _keep(self) -> None:
        line = "".join(self._cells).strip()
        if line:
            self._whole = line

    @property
    def text(self) -> str:
        """The last line that holds anything."""
        return "".join(self._cells).strip() or self._whole
