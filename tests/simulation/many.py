"""Many worlds at once, one after the other in each of a few processes."""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Iterable

from tests.simulation.simulate import LIVES, Broken, simulate

__all__ = ["LIVES", "play", "seeds_for"]


def seeds_for(lives: int, first: int = 0) -> range:
    """Return the seeds of as many worlds as it takes for so many lives."""
    return range(first, first + max(1, lives // LIVES))


def play(
    seeds: Iterable[int], *, processes: int = 2, seconds: float = math.inf, enough: int = 0
) -> tuple[int, list[str]]:
    """Return how many tasks lived in the worlds of these seeds, and what broke in which of them.

    After `seconds` no further world is waited for once `enough` tasks have lived.
    """
    ends = time.monotonic() + seconds
    lives, broken = 0, []
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_quiet) as pool:
        for lived, text in pool.imap_unordered(_one, seeds):
            lives += lived
            if text:
                broken.append(text)
            if lives >= enough and time.monotonic() > ends:
                break
    return lives, broken


def _quiet() -> None:
    # In a world of faults the core warns all the time; the filters that look for defects come before.
    logging.getLogger("tasks").propagate = False
    logging.getLogger("tasks").addHandler(logging.NullHandler())


def _one(seed: int) -> tuple[int, str]:
    try:
        return simulate(seed, LIVES).lives, ""
    except Broken as broken:
        return 0, str(broken)
