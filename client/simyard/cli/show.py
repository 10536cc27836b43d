"""What goes to standard output: one JSON document, or a table that fits a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from simyard.cli.text import plain
from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


_NARROWEST = 8


def say_json(value: BaseModel | Any) -> None:
    """Print one JSON document on one or more lines."""
    dump = getattr(value, "model_dump", None)
    document = dump(mode="json") if dump is not None else value
    typer.echo(json.dumps(document, indent=2, default=_plain_data))


def confirm(question: str) -> None:
    """Ask a person whether to go on, and leave where the answer is not yes.

    Raises:
        InvalidInput: nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise InvalidInput("Nobody can be asked here whether to go on.", field="--yes", fix="Give --yes.")
    typer.confirm(question, abort=True, err=True)


def say_json_line(value: Any) -> None:
    """Print one JSON document on one line."""
    typer.echo(json.dumps(value, default=_plain_data))


def _plain_data(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else str(value)


def say_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    fixed: Sequence[int],
    right: Sequence[int] = (),
    prose: Sequence[int] = (),
) -> None:
    """Print rows below their heads: `fixed` columns are never cut or wrapped, `prose` is wrapped, the rest is cut."""
    from rich.table import Table
    from rich.text import Text

    # The columns that must stay whole keep the width of their longest text.
    shown = [[plain(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    screen = console()
    widths = [max([len(head), *(len(row[i]) for row in shown)]) for i, head in enumerate(heads)]
    cut = [i for i in range(len(heads)) if i not in fixed and i not in prose]
    room = screen.width - 2 * (len(heads) - 1) - sum(widths[i] for i in range(len(heads)) if i not in cut)
    narrow = narrowed([widths[i] for i in cut], room if not prose else screen.width)
    for i, head in enumerate(heads):
        table.add_column(
            Text(head),
            no_wrap=i not in prose,
            overflow="ellipsis",
            min_width=widths[i] if i in fixed else None,
            max_width=narrow[cut.index(i)] if i in cut else None,
            justify="right" if i in right else "left",
        )
    for row in shown:
        table.add_row(*(Text(cell) for cell in row))
    screen.print(table)


def narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Return widths of columns that fit together where they can: the widest give way, and none below 8."""
    narrow = list(widths)
    while narrow and sum(narrow) > room and max(narrow) > _NARROWEST:
        narrow[narrow.index(max(narrow))] -= 1
    return narrow


def say_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    shown = [(name, plain(value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        typer.echo(f"{name:<{width}}  {value}")


def console(*, stderr: bool = False) -> Console:
    """Return where rich text goes; colours and movement only on a terminal, and none where `NO_COLOR` is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def is_terminal() -> bool:
    """Say whether a person watches standard error."""
    return sys.stderr.isatty()
