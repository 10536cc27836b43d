"""Progress bars for files that are hashed, sent or brought, on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simyard.cli.show import console, is_terminal

if TYPE_CHECKING:
    from simyard.progress import Progress, Transferred

_WORDS = {"hash": "Reading", "upload": "Sending", "download": "Fetching"}


@contextmanager
def bars(*, quiet: bool) -> Iterator[Progress | None]:
    """Give what shows progress as bars; None where nobody watches."""
    if quiet or not is_terminal():
        yield None
        return
    from rich import progress as rich_progress

    display = rich_progress.Progress(
        rich_progress.TextColumn("{task.description:<9}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.TextColumn("{task.fields[files]:>16}"),
        rich_progress.DownloadColumn(binary_units=True),
        rich_progress.TransferSpeedColumn(),
        console=console(stderr=True),
        transient=True,
    )
    stages: dict[str, rich_progress.TaskID] = {}

    def show(now: Transferred) -> None:
        name = now.stage.value
        if name not in stages:
            stages[name] = display.add_task(_WORDS[name], total=None, files="")
        display.update(
            stages[name],
            total=now.of_bytes or 1,
            completed=now.bytes if now.of_bytes else now.files / max(now.of_files, 1),
            files=f"{now.files}/{now.of_files} files",
        )

    with display:
        yield show
