"""What do tasks on one machine pay for a large input that they have in common, in S3?

    .venv/bin/python -m benchmarks.staging [--tasks 20] [--size 200MB] [--folder FOLDER]

A real S3 server is started beside. Each task's inputs are brought into a folder of its own, one task after the other,
as an attempt does it: without a place where the machine keeps inputs, and with an empty one at first. The floor is a
plain copy of the file into each folder, with nothing around it.

One JSON line each: bytes that came from the storage, seconds and CPU milliseconds of this process a task, of all tasks
and of the last one; `ratio` is to the floor. The S3 server's own work is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simyard.files import InputFile
from simyard.resources import parse_size
from storage.inputs import put_input, stage
from storage.kept_inputs import KeptInputs
from storage.objects import CHUNK, open_store
from tests.services.s3 import swift

Bring = Callable[[Path], int]
"""Fills a folder, and returns how many bytes came from the storage."""


def measured(what: str, folder: Path, tasks: int, bring: Bring) -> dict[str, Any]:
    """Return the figures of all tasks."""
    fetched, walls, cpus = 0, [], []
    for _ in range(tasks):
        work = folder / "work"
        work.mkdir()
        wall, cpu = time.perf_counter(), time.process_time()
        fetched += bring(work)
        walls.append(time.perf_counter() - wall)
        cpus.append(1000 * (time.process_time() - cpu))
        shutil.rmtree(work)
    return {
        "what": what,
        "tasks": tasks,
        "fetched_mb": round(fetched / 1e6),
        "s_per_task": round(sum(walls) / tasks, 3),
        "cpu_ms_per_task": round(sum(cpus) / tasks, 1),
        "last_s": round(walls[-1], 3),
        "last_cpu_ms": round(cpus[-1], 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--size", type=parse_size, default="200MB")
    parser.add_argument("--folder", type=Path, help="where the files are; a file system with extended attributes")
    options = parser.parse_args()
    print(json.dumps({"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}), flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        mesh = folder / "mesh"
        with mesh.open("wb") as file:
            for _ in range(options.size // CHUNK):
                file.write(os.urandom(CHUNK))
        (folder / "s3").mkdir()
        with swift(folder / "s3") as server:
            os.environ.update(server.environment)
            store = open_store(f"s3://{server.bucket}/bench")
            size = mesh.stat().st_size
            inputs = [InputFile(path="mesh", sha256=put_input(store, mesh), size=size)]
            kept = KeptInputs(folder / "inputs", 2 * size)

            def copied(work: Path) -> int:
                shutil.copyfile(mesh, work / "mesh")
                return 0

            ways: dict[str, Bring] = {
                "floor": copied,
                "each task fetches": lambda work: stage(store, inputs, work).fetched,
                "the machine keeps": lambda work: stage(store, inputs, work, kept=kept).fetched,
            }
            floor: dict[str, Any] = {}
            for what, bring in ways.items():
                found = measured(what, folder, options.tasks, bring)
                floor = floor or found
                names = ("s_per_task", "cpu_ms_per_task", "last_s", "last_cpu_ms")
                found["ratio"] = {name: round(found[name] / max(floor[name], 1e-3), 1) for name in names}
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
