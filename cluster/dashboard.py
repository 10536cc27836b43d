"""Ray's own dashboard beside a running head, for as long as somebody looks at it.

No head of ours starts with one (decision 0023): it is ten processes, which are of use only while they are watched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from cluster.errors import HeadFailed
from cluster.head import HeadPlan, ray_environment

_START_SECONDS = 120.0
_LOOK_SECONDS = 0.2


@contextmanager
def dashboard(plan: HeadPlan, address: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Give the process of the dashboard of the head at an address, which answers on a port of 127.0.0.1.

    Whoever looks at it needs the head's token. Nothing of it is left afterwards.

    Raises:
        HeadFailed: it did not start; its last lines stand in the error.
    """
    log = plan.temp_dir / "dashboard.log"
    with log.open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster.bare_dashboard"],
            env=os.environ | ray_environment(plan),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as told:
                json.dump({"address": address, "folder": str(plan.temp_dir), "port": port}, told)
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    last = output.read().strip().splitlines()[-5:]
                    raise HeadFailed(
                        "Ray's dashboard did not start: " + " | ".join(last),
                        fix=f"Its log is {plan.temp_dir}/session_latest/logs/dashboard.log.",
                    )
                time.sleep(_LOOK_SECONDS)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
