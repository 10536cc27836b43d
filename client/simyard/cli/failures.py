"""Errors as the command line tells them: one line that says what to do, and an exit status."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from simyard.cli.text import plain
from simyard.errors import SimyardError

REFUSED = 2
UNREACHABLE = 3
INTERRUPTED = 130


class FailureAwareGroup(TyperGroup):
    """The program's root: no error of ours leaves it with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except SimyardError as error:
            tell(error)
            raise typer.Exit(exit_status(error)) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


def exit_status(error: SimyardError) -> int:
    """Return 2 for what the user can put right, 3 for what the server could not do."""
    return UNREACHABLE if error.status >= 500 and not _is_local(error) else REFUSED


def _is_local(error: SimyardError) -> bool:
    from simyard.errors import NotInstalled, StillGoing

    return isinstance(error, NotInstalled | StillGoing)


def tell(error: SimyardError) -> None:
    """Print an error as `error: field: reason. fix`."""
    say(f"error: {error}")


def say(text: str) -> None:
    """Print a line for people."""
    typer.echo(plain(text), err=True)
