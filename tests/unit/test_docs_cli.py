"""The page of the command line is what the program itself says; `python -m tests.unit.test_docs_cli` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from simyard.cli.app import build

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
HEAD = """# Command line

Every command and every option of `simyard`. `simyard COMMAND --help` says the same.

`up`, `down`, `admin` and `images` are there where the server is installed. `--json` prints one JSON document on
standard output (`tasks logs` one for each piece of the log), and nothing else; messages for people go to standard
error.

| exit status | meaning |
|---|---|
| 0 | done; a task that was waited for succeeded |
| 1 | the task ended otherwise |
| 2 | refused: bad input or usage |
| 3 | the server cannot be reached, or failed |
| 130 | Ctrl-C; a task that was waited for goes on |

Sizes are bytes, or numbers with a unit: `500MB` is in powers of 1000, `2GiB` and `2g` in powers of 1024. Times are
seconds, or numbers with `s`, `m`, `h` or `d`.

The server is the one that `simyard up` or `simyard login` left in the profile, or the one in `SIMYARD_URL` and
`SIMYARD_KEY`; see [settings](settings.md).
"""


def rendered() -> str:
    """Return the page."""
    return HEAD + "".join(_commands("simyard", typer.main.get_command(build())))


def _commands(name: str, command: Any) -> Iterator[str]:
    for child, found in getattr(command, "commands", {}).items():
        full = f"{name} {child}"
        if hasattr(found, "commands"):
            yield from _commands(full, found)
        else:
            yield "\n" + "\n".join(_page(full, found)) + "\n"


def _page(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = " ".join(_metavar(p) for p in arguments)
    yield f"## {name}\n"
    yield f"`{name}{' [OPTIONS]' if options else ''}{' ' + words if words else ''}`\n"
    yield f"{command.help.strip()}\n"
    yield "| argument or option | |"
    yield "|---|---|"
    for p in arguments:
        yield f"| `{_metavar(p)}` | {_cell(p.help)} |"
    for p in options:
        value = "" if p.is_flag else " " + (p.metavar or p.opts[0].strip("-").upper())
        yield f"| `{', '.join(p.opts)}{value}` | {_cell(p.help)}{_default(p)} |"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _default(parameter: Any) -> str:
    value = parameter.default
    return f" Default: {value}." if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else ""


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def test_the_page_of_the_command_line_is_what_the_program_says() -> None:
    assert PAGE.read_text() == rendered(), "write it anew: python -m tests.unit.test_docs_cli"


if __name__ == "__main__":
    PAGE.write_text(rendered())
