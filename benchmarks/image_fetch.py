"""How long until a machine that lacks a simulator's image has it: built there, or fetched from the storage?

    .venv/bin/python -m benchmarks.image_fetch [--simulator swmm] [--rounds 3] [--json]

`build` makes the image from its Containerfile with podman, where the base is there already but no layer of it is;
`fetch` brings it from a bucket of an S3 server on this machine, as a machine of a cluster does. The floor is `load`:
the same bytes downloaded and unpacked with no check, and loaded by podman. Given are medians in seconds, and what it
takes in the bucket. The image is removed and made anew: let nobody else use it meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from simulators import catalogue
from simulators.image_shelf import ImageShelf, Note
from simulators.images import build_image, ensure_base, find_engine
from simyard.resources import MIB
from simyard.simulator import RuntimeName
from storage.objects import open_store
from tests.services.s3 import swift


def seconds(act: Callable[[], object]) -> float:
    """Return how long an action takes on the wall clock."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def measure(name: str, rounds: int, home: Path) -> dict[str, Any]:
    """Return the medians."""
    spec = catalogue.find(name)
    version = spec.versions[0]
    assert version.image is not None, f"{name} has no image"
    tag, engine = version.image.tag, find_engine(RuntimeName.PODMAN)
    ensure_base(engine)
    found: dict[str, list[float]] = {"build": [], "fetch": [], "load": []}
    with swift(home) as server:
        os.environ.update(server.environment)
        store = open_store(f"s3://{server.bucket}/images")
        shelf = ImageShelf(store)
        for _ in range(rounds):
            found["build"].append(seconds(lambda: build_image(spec, version, engine=engine, rebuild=True)))
        shelf.keep(engine, spec, version)
        note, archive = (one.key for one in sorted(store.list("images"), key=lambda one: one.key))
        told = Note.model_validate_json(store.get(note))

        def load() -> None:
            packed, plain = home / "packed", home / "plain"
            packed.write_bytes(store.get(archive))
            with pa.CompressedInputStream(str(packed), "zstd") as stream:
                plain.write_bytes(stream.read())
            engine.run(["load", "--input", str(plain)], 600)

        for _ in range(rounds):
            for what, act in (("fetch", lambda: shelf.fetch(engine, spec, version)), ("load", load)):
                engine.run(["rmi", "--force", tag], 60)
                found[what].append(seconds(act))
    return {
        "simulator": name,
        "mib": round(told.size / MIB, 1),
        **{f"{what}_s": round(statistics.median(values), 1) for what, values in found.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulator", default="swmm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = measure(options.simulator, options.rounds, Path(home))
    if options.json:
        print(json.dumps({"benchmark": "image_fetch", "cores": os.cpu_count(), "load": os.getloadavg()[0], **found}))
        return
    print(f"seconds until {found['simulator']}'s image ({found['mib']} MiB in the bucket) is there")
    print("  ".join(f"{what} {found[f'{what}_s']}" for what in ("build", "fetch", "load")))


if __name__ == "__main__":
    main()
