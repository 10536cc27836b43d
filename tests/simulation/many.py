"""Many worlds at once, one after the other in each of a few processes."""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Iterable
from functools import partial

from tests.simulation.simulate import LIVES, Broken, simulate

__all__ = ["LIVES", "play", "seeds_for"]


def seeds_for(lives: int, first: int = 0) -> range:
    """Return the seeds of as many worlds as it takes for so many lives."""
    return range(first, first + max(1, lives // LIVES))


def play(seeds: Iterable[int], *, processes: int = 2, seconds: float = math.inf) -> tuple[int, list[str]]:
    """Return how many tasks lived in the worlds of these seeds, and what broke in which of them.

    After `seconds` no further world is begun.
    """
    ends = time.monotonic() + seconds
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_quiet) as pool:
        results = list(pool.imap_unordered(partial(_one, ends), seeds))
    return sum(lives for lives, _ in results), [text for _, text in results if text]


def _quiet() -> None:
    # In a world of faults the core warns all the time; the filters that look for defects come before.
    logging.getLogger("tasks").propagate = False
    logging.getLogger("tasks").addHandler(logging.NullHandler())


def _one(ends: float, seed: int) -> tuple[int, str]:
    if time.monotonic() > ends:
        return 0, ""
    try:
        return simulate(seed, LIVES).lives, ""
    except Broken as broken:
        return 0, str(broken)
