"""The program that becomes Ray's dashboard of a running head, and ends when who started it does.

`python -m cluster.bare_dashboard` reads a JSON object with the head's `address`, the `folder` of its Ray and the `port`
to answer on from its standard input.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the dashboard."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    told = json.load(sys.stdin)
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray has no types here

    session = (Path(told["folder"]) / "session_latest").resolve()
    given = {
        "host": "127.0.0.1",
        "port": told["port"],
        "port-retries": 0,
        "gcs-address": told["address"],
        "cluster-id-hex": GcsClient(address=told["address"]).cluster_id.hex(),
        # Where it is another one, the dashboard tells its own metrics to the whole network.
        "node-ip-address": "127.0.0.1",
        "temp-dir": told["folder"],
        "session-dir": session,
        "log-dir": session / "logs",
    }
    options = [f"--{name}={value}" for name, value in given.items()]
    os.execv(sys.executable, [sys.executable, "-m", "ray.dashboard.dashboard", *options])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
