"""`simyard sweeps`: look at sweeps, wait for them, read their tables, end them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simyard.cli import session
from simyard.cli.failures import say
from simyard.cli.options import DownloadTo, Json, Out
from simyard.cli.show import console, say_json, say_pairs, say_table
from simyard.cli.sweeping import bring, parse_out, save, shortened, watch_sweep
from simyard.cli.text import ago, moment, plain, usd

if TYPE_CHECKING:
    from simyard.sweep import Sweep as SweepInfo

commands = typer.Typer(
    help="Look at sweeps, wait for them, read their tables, end them.", no_args_is_help=True, rich_markup_mode=None
)
SweepArgument = Annotated[str, typer.Argument(metavar="ID", help="The sweep's id.")]


@commands.command("list")
def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json_: Json = False,
) -> None:
    """List your sweeps, newest first."""
    with session.connect() as client:
        found = [sweep.info for sweep in client.sweeps.list(None if all_ else limit)]
    if json_:
        say_json({"sweeps": found})
        return
    now = datetime.now(UTC)
    rows = [
        (
            info.id,
            f"{info.ended}/{info.cases}",
            str(info.ended - _count(info, "succeeded")),
            f"{info.simulator} {info.version}",
            ago(info.created_at, now),
            info.name or "",
        )
        for info in found
    ]
    say_table(("ID", "ENDED", "FAILED", "SIMULATOR", "CREATED", "NAME"), rows, fixed=(0, 1, 2, 4), right=(1, 2))
    if not all_ and len(found) == limit:
        say("There may be more: --limit N or --all.")


@commands.command("info")
def show_sweep(sweep: SweepArgument, json_: Json = False) -> None:
    """Show all that is known of a sweep."""
    with session.connect() as client:
        info = client.sweeps.get(sweep).info
    if json_:
        say_json(info)
        return
    facts = [
        ("id", info.id),
        ("name", info.name or ""),
        ("project", info.project),
        ("simulator", f"{info.simulator} {info.version}"),
        ("parameters", ", ".join(info.columns)),
        ("cases", str(info.cases)),
        *((status.value, str(count)) for status, count in info.counts.items() if count),
        ("created", moment(info.created_at)),
        ("cost", "" if info.cost_usd is None else f"{usd(info.cost_usd)}{'' if info.is_over else ' so far'}"),
    ]
    say_pairs([(name, value) for name, value in facts if value])


@commands.command("wait")
def wait_for_sweep(
    sweep: SweepArgument,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Wait no longer.")] = None,
    download: DownloadTo = None,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Wait until all tasks of a sweep have ended; the exit status is 0 only when all succeeded."""
    tables = parse_out(out or ())
    with session.connect() as client:
        found = client.sweeps.get(sweep)
        succeeded = watch_sweep(found, quiet=json_, timeout=timeout)
        bring(found, download, tables, quiet=json_)
        if json_:
            say_json(found.info)
    if not succeeded:
        raise typer.Exit(1)


@commands.command("cancel")
def cancel_sweeps(
    sweeps: Annotated[list[str], typer.Argument(metavar="ID...", help="The sweeps' ids.")], json_: Json = False
) -> None:
    """End all tasks of sweeps; what they have made so far is kept."""
    with session.connect() as client:
        found = [client.sweeps.get(sweep) for sweep in dict.fromkeys(sweeps)]
        for handle in found:
            before = handle.info.ended
            info = handle.cancel()
            if not json_:
                left = info.cases - info.ended
                more = f", {left} are being ended" if left else ""
                say(f"{info.id}: {before} tasks had ended before, {info.ended - before} ended now{more}")
    if json_:
        say_json(found[0].info if len(found) == 1 else {"sweeps": [handle.info for handle in found]})


@commands.command("table")
def print_table(
    sweep: SweepArgument,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="`simyard simulators info` shows them.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there: .parquet, .csv or .json.")] = None,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Print so many rows.")] = 20,
    json_: Json = False,
) -> None:
    """Print one result table of all tasks that succeeded, beside the parameters of their cases."""
    if out is not None:
        parse_out([f"{table}={out}"])
    with session.connect() as client:
        found = client.sweeps.get(sweep)
        if out is not None:
            save(found, table, out, quiet=json_)
            if json_:
                say_json({"sweep": sweep, "table": table, "file": str(out)})
            return
        if json_:
            with found.stream_table(table, "json") as stream:
                for chunk in stream:
                    sys.stdout.buffer.write(chunk)
            sys.stdout.write("\n")
            sys.stdout.flush()
            return
        with found.stream_table(table) as stream:
            lines = csv.reader(_lines(stream))
            heads = next(lines, [])
            shown = [[_cell(cell) for cell in line] for line in islice(lines, rows)]
            more = next(lines, None) is not None
    _say_rows(heads, shown, more=more)


def _say_rows(heads: list[str], rows: list[list[str]], *, more: bool) -> None:
    count = shortened(rows, heads, console().width)
    say_table(heads[:count], [row[:count] for row in rows], fixed=range(count))
    if count < len(heads):
        say(plain(f"Not shown: {', '.join(heads[count:])}"))
    if more:
        say("There are more rows: --out FILE writes all of them.")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Give the lines of a text that comes in pieces."""
    held = b""
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        yield from (line.decode() + "\n" for line in lines)
    if held:
        yield held.decode()


def _cell(text: str) -> str:
    """Return a cell with no more digits of a number than people read."""
    if "." in text:
        with suppress(ValueError):
            return f"{float(text):.6g}"
    return text


def _count(info: SweepInfo, wanted: str) -> int:
    return sum(count for status, count in info.counts.items() if status.value == wanted)
