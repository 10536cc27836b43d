"""Waiting for a sweep and bringing what came of it, and how to come back to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from simyard.cli.arguments import parse_pairs
from simyard.cli.failures import INTERRUPTED, say
from simyard.cli.text import size
from simyard.errors import InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from simyard.collection import Sweep


def watch_sweep(sweep: Sweep, *, quiet: bool, timeout: float | None = None) -> bool:
    """Return whether all tasks succeeded, once they have ended; Ctrl-C leaves them running and says how to come back.

    Raises:
        StillGoing: they have not ended within `timeout` seconds.
        Unavailable: the server is away for long.
    """
    try:
        sweep.wait(timeout, show=not quiet)
    except KeyboardInterrupt:
        say(f"\n{sweep.id} goes on without you.".strip())
        say_how_back(sweep.id)
        raise typer.Exit(INTERRUPTED) from None
    except Unavailable:
        say(f"{sweep.id} goes on, but the server cannot be asked.")
        say_how_back(sweep.id)
        raise
    if not quiet:
        _say_end(sweep)
    return sweep.info.succeeded


def say_how_back(sweep: str) -> None:
    """Print how to wait for a sweep again, and how to end it."""
    say(f"  wait for it again:  simyard sweeps wait {sweep}")
    say(f"  end it:             simyard sweeps cancel {sweep}")


def parse_out(texts: Iterable[str]) -> dict[str, Path]:
    """Return the files for tables by the tables' names.

    Raises:
        InvalidInput: a text is not TABLE=FILE, a table comes twice, or a file's name or folder is not usable.
    """
    from simyard.collection import check_form

    found = {table: Path(path) for table, path in parse_pairs(texts, "out", "--out").items()}
    for path in found.values():
        check_form(path)
        if path.is_dir() or not path.absolute().parent.is_dir():
            what = "is a folder" if path.is_dir() else "would be in a folder that is not there"
            raise InvalidInput(f"{str(path)!r} {what}.", field="out", fix="Give the path of a file.")
    return found


def bring(sweep: Sweep, folder: Path | None, tables: dict[str, Path], *, quiet: bool) -> None:
    """Fetch outputs and tables of a sweep, as far as they were asked for, and say so."""
    if folder is not None:
        found = sweep.download(folder)
        if not quiet:
            files = sum(len(one.files) for one in found.values())
            total = size(sum(one.bytes for one in found.values()))
            say(f"{files} files ({total}) of {len(found)} cases are in {folder}")
        for number, one in found.items():
            for path in one.left_out:
                say(f"warning: case {number}: the symbolic link {path!r} was left out: it leads out of the folder.")
    for table, target in tables.items():
        save(sweep, table, target, quiet=quiet)


def save(sweep: Sweep, table: str, path: Path, *, quiet: bool) -> None:
    """Write one table of a sweep into a file and say so; where nothing succeeded, there is none."""
    try:
        with_rows, cases = sweep.save_table(table, path)
    except NotFound as error:
        if any(count for status, count in sweep.info.counts.items() if status.value == "succeeded"):
            raise
        say(f"There is no table to fetch: {error.reason}")
        return
    if not quiet:
        less = "" if with_rows == cases else f"; {cases - with_rows} of {cases} gave none"
        say(f"the rows of {with_rows} cases are in {path}{less}")


def _say_end(sweep: Sweep) -> None:
    info = sweep.info
    counts = {status.value: count for status, count in info.counts.items() if count}
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    say(f"{sweep.id} ended: {told}")
    for status in counts:
        if status != "succeeded":
            say(f"  which ones:  simyard tasks list --sweep {sweep.id} --status {status}")


def shortened(rows: Sequence[Sequence[str]], heads: Sequence[str], width: int) -> int:
    """Return how many columns fit side by side, at least one."""
    used = 0
    for i, head in enumerate(heads):
        used += max([len(head), *(len(row[i]) for row in rows)]) + (2 if i else 0)
        if used > width and i:
            return i
    return len(heads)
