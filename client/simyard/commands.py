"""Commands as users write them in one line, made into argument vectors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from simyard.errors import InvalidInput
from simyard.simulator import Command

_SHELL = {
    "|": "a pipe",
    "&": "a command in the background, or a list of commands",
    ";": "a list of commands",
    ">": "a redirection",
    "<": "a redirection",
    "`": "another command's output",
    "$": "a variable",
}
_FIX = (
    "Commands are not run by a shell: give each one by itself, put a script into the folder and run that, "
    "or quote the character."
)


def parse_command(command: Command | str | Sequence[str], field: str = "commands") -> Command:
    """Return a command of a line, of its words, or as it is.

    Raises:
        InvalidInput: the line is empty, has an open quote, or has what only a shell understands.
    """
    if isinstance(command, Command):
        return command
    if not isinstance(command, str):
        return _made(list(command), field)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidInput(f"{command!r} cannot be read: {error}.", field=field, fix="Close the quote.") from None
    sign = _shell_sign(command)
    if sign:
        raise InvalidInput(f"{command!r} holds {_SHELL[sign]} ({sign}).", field=field, fix=_FIX)
    return _made(words, field)


def parse_template(command: Command | str | Sequence[str], field: str = "commands") -> Command:
    """Return the same where `{{ … }}` may stand in a line: what is between is one word, or a part of one.

    Raises:
        InvalidInput: as `parse_command`.
    """
    if not isinstance(command, str):
        return parse_command(command, field)
    expressions = _EXPRESSION.findall(command)
    held = iter(range(len(expressions)))
    parsed = parse_command(_EXPRESSION.sub(lambda _: f"\ue000{next(held)}\ue001", command), field)
    words = (_HELD.sub(lambda match: expressions[int(match[1])], word) for word in parsed.argv)
    return parsed.model_copy(update={"argv": tuple(words)})


_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_HELD = re.compile("\ue000(\\d+)\ue001")


def _shell_sign(line: str) -> str:
    """Return the first character outside of quotes that only a shell understands, or an empty text."""
    quote, escaped = "", False
    for i, c in enumerate(line):
        if escaped:
            escaped = False
        elif c == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in _SHELL and (c != "$" or line[i + 1 : i + 2].isidentifier() or line[i + 1 : i + 2] in {"(", "{"}):
            return c
    return ""


def _made(words: list[str], field: str) -> Command:
    if not words or not all(words):
        raise InvalidInput("A command has at least its program, and no empty words.", field=field, fix="Write it out.")
    return Command(argv=tuple(words))
