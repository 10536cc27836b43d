"""Dask's scheduler in this process, with two workers that are processes of one thread.

`python -m benchmarks.peer_programs.over_dask FOLDER`
"""

from __future__ import annotations

import subprocess
import sys

from distributed import Client, LocalCluster, wait

from benchmarks.peer_programs.turns import DEADLINE, take_turns


def true(_: int) -> None:
    """Start the process and wait for it."""
    subprocess.run(["/bin/true"], check=True)


def main(folder: str) -> None:
    """Serve until there are no more lines."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
        ) as cluster,
        Client(cluster) as client,
    ):

        def run(count: int) -> None:
            # Otherwise a second turn would be answered from the results of the first.
            futures = client.map(true, range(count), pure=False)
            wait(futures, timeout=DEADLINE)
            if any(future.status != "finished" for future in futures):
                raise SystemExit("a task failed")

        take_turns(run)


if __name__ == "__main__":
    main(sys.argv[1])
