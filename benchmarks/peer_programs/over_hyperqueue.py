"""HyperQueue's server and its worker of two cores, inside of this process: its wheel has no `hq` program.

`python -m benchmarks.peer_programs.over_hyperqueue FOLDER`. Each turn is one job of as many tasks.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import hyperqueue
from hyperqueue.cluster import WorkerConfig

from benchmarks.peer_programs.turns import DEADLINE, take_turns


class NotYet(Exception):  # noqa: N818 - it is no error
    """The job has not ended."""


def look(jobs: dict[int, dict[str, Any]]) -> None:
    """End HyperQueue's own wait, which would look again only after a second."""
    if not all(job["completed"] for job in jobs.values()):
        raise NotYet


def main(folder: str) -> None:
    """Serve until there are no more lines."""
    with hyperqueue.LocalCluster(folder, WorkerConfig(cores=2)) as cluster:
        client = cluster.client()

        def run(count: int) -> None:
            job = hyperqueue.Job(folder, max_fails=0)
            for _ in range(count):
                job.program(["/bin/true"], stdout=None, stderr=None)
            submitted = client.submit(job)
            deadline = time.monotonic() + DEADLINE
            while time.monotonic() < deadline:
                try:
                    failed = client.connection.wait_for_jobs([submitted.id], look)
                except NotYet:
                    time.sleep(0.02)
                    continue
                if failed:
                    raise SystemExit("a task failed")
                client.forget(submitted)
                return
            raise SystemExit("the tasks took too long")

        take_turns(run)


if __name__ == "__main__":
    main(sys.argv[1])
