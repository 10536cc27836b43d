"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simyard.cli.text import plain

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
TaskArgument = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]


def check_folder(folder: Path | None) -> Path | None:
    """Refuse a folder for outputs before anything is waited for, where something else has its name."""
    if folder is not None and (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise typer.BadParameter(f"{plain(str(folder))} is not a folder.")
    return folder


Glob = Annotated[
    str | None, typer.Option(metavar="GLOB", help="Only files that match: * stays in one folder, ** crosses them.")
]
DownloadTo = Annotated[
    Path | None,
    typer.Option(
        "--download", metavar="DIR", callback=check_folder, help="Wait, then fetch the outputs into this folder."
    ),
]
Out = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TABLE=FILE", help="Wait, then write this table of all cases: .parquet, .csv or .json; may come again."
    ),
]
