"""One line in, one line out: how a benchmark says how many tasks to run, and learns that all have succeeded."""

from __future__ import annotations

import sys
from collections.abc import Callable

DEADLINE = 900.0
"""Seconds that starting a queue and the tasks of one line may take."""
READY = "ready"
ENDED = "ended"


def take_turns(run: Callable[[int], None]) -> None:
    """Run as many tasks as each line of the standard input says, until there are no more lines."""
    print(READY, flush=True)
    for line in sys.stdin:
        run(int(line))
        print(ENDED, flush=True)
