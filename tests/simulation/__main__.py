"""Plays worlds: one again by its seed, or many until so many tasks have lived.

python -m tests.simulation --seed 7 --trace
python -m tests.simulation --lives 1000000
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.many import LIVES, play, seeds_for
from tests.simulation.simulate import Broken, simulate


def _say(line: object) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play just this world")
    parser.add_argument("--trace", action="store_true", help="print every step of that world")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of many worlds")
    parser.add_argument("--lives", type=int, default=LIVES, help="tasks in one world, or in all of many")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    begin = time.monotonic()
    if asked.seed is not None:
        try:
            _say(simulate(asked.seed, LIVES, trace=_say if asked.trace else None))
        except Broken as broken:
            _say(broken)
            return 1
        return 0
    lives, broken_ones = play(seeds_for(asked.lives, asked.first), processes=asked.processes)
    for text in broken_ones:
        _say(text)
    seconds = time.monotonic() - begin
    _say(f"{lives} lives in {seconds:.1f} s, {lives / seconds:.0f} a second; {len(broken_ones)} worlds broke a promise")
    return 1 if broken_ones else 0


if __name__ == "__main__":
    sys.exit(main())
