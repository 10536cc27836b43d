"""The processes of a machine that carry runs."""

from __future__ import annotations

from contextlib import suppress

import psutil

from cluster.labels import CARRIER


def carriers_of(process: psutil.Process) -> list[psutil.Process]:
    """Return those among all that a process has started, or that these have."""
    found = []
    for one in process.children(recursive=True):
        with suppress(psutil.Error, IndexError):
            if one.name().startswith(CARRIER) or one.cmdline()[0].startswith(CARRIER):
                found.append(one)
    return found
