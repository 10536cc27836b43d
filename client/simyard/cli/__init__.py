"""The `simyard` command: what a user types instead of Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and exit with its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        # The answer that scripts ask for most needs none of the rest.
        from simyard.cli.version import say_version

        say_version()
        return
    # httpx would load its own command line, and with it Rich, Click and Pygments: two fifths of what a command costs.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # as Python has it for what is not to be had
    from simyard.cli.app import build

    build(given)(args=given, prog_name="simyard")
