"""Parsl's HighThroughputExecutor with two workers; the tasks are bash apps, so bash starts each.

`python -m benchmarks.peer_programs.over_parsl FOLDER`
"""

from __future__ import annotations

import sys
from concurrent.futures import wait

import parsl
from parsl.app.app import bash_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from benchmarks.peer_programs.turns import DEADLINE, take_turns


@bash_app
def true() -> str:
    """Return the command line of a task."""
    return "/bin/true"


def run(count: int) -> None:
    """Run so many tasks."""
    futures = [true() for _ in range(count)]
    if wait(futures, DEADLINE).not_done:
        raise SystemExit("the tasks took too long")
    if any(future.result() for future in futures):
        raise SystemExit("a task failed")


def main(folder: str) -> None:
    """Serve until there are no more lines."""
    executor = HighThroughputExecutor(
        label="two_workers",
        address="127.0.0.1",
        max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )
    with parsl.load(Config(executors=[executor], run_dir=folder, initialize_logging=False, strategy="none")):
        take_turns(run)


if __name__ == "__main__":
    main(sys.argv[1])
