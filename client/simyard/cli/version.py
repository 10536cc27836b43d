"""The installed version."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version of the `simyard` distribution."""
    try:
        return version("simyard")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"


def say_version() -> None:
    """Print the version."""
    sys.stdout.write(f"simyard {installed_version()}\n")
