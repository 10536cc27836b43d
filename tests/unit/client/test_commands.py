from __future__ import annotations

import pytest

from simyard.commands import parse_command
from simyard.errors import InvalidInput
from simyard.simulator import Command


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("ccx -i beam", ("ccx", "-i", "beam")),
        ("a 'two words' \"it's\" x\\ y", ("a", "two words", "it's", "x y")),
        ("grep 'a|b' \"c;d\" e\\>f", ("grep", "a|b", "c;d", "e>f")),
        ("awk '{print $1}' *.dat 5$ #1", ("awk", "{print $1}", "*.dat", "5$", "#1")),
        ("  größe   ☃ ", ("größe", "☃")),
    ],
)
def test_a_line_is_split_as_a_shell_would(line: str, argv: tuple[str, ...]) -> None:
    assert parse_command(line).argv == argv


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a | b", "a pipe"),
        ("a|b", "a pipe"),
        ("a > out", "a redirection"),
        ("a 2>err", "a redirection"),
        ("a < in", "a redirection"),
        ("a && b", "a list of commands"),
        ("a; b", "a list of commands"),
        ("a &", "background"),
        ("a $HOME", "a variable"),
        ("a $(b)", "a variable"),
        ("a `b`", "another command's output"),
    ],
)
def test_what_needs_a_shell_is_refused(line: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        parse_command(line, "commands.0")
    assert caught.value.field == "commands.0"
    assert "not run by a shell" in str(caught.value)


@pytest.mark.parametrize("line", ["", "  ", "a 'b", "a ''", [], ["a", ""]])
def test_what_is_no_command_is_refused(line: str | list[str]) -> None:
    with pytest.raises(InvalidInput):
        parse_command(line)


def test_words_and_commands_are_taken_as_they_are() -> None:
    assert parse_command(["a", "b | c"]).argv == ("a", "b | c")
    command = Command(argv=("a",), shell=True)
    assert parse_command(command) is command
