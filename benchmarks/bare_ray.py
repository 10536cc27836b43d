"""A Ray as `ray start --head` makes it, with a Serve application on it: what a whole server stands beside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.head import free_port, stop_head
from cluster.server_mark import MARK, temp_dir

WITHIN = 180.0
_HEAD = """
import sys
import ray
from fastapi import FastAPI
from ray import serve

ray.init(address=sys.argv[1], log_to_driver=False)
serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
"""


def start_bare_ray(name: str, application: str) -> str:
    """Start it and return its URL; `stop_bare_ray(name)` ends it, also where it did not start.

    `application` is the rest of a program that has connected to Ray and started Serve; it runs the application.
    """
    port, http = free_port(), free_port()
    environment = os.environ | {MARK: name, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    ray = Path(sys.executable).with_name("ray")
    start = (ray, "start", "--head", f"--port={port}", f"--temp-dir={temp_dir(name)}", "--include-dashboard=false")
    put = (sys.executable, "-c", _HEAD + application, f"127.0.0.1:{port}", str(http))
    for command in (start, put):
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN,
            start_new_session=True,
        )
        if done.returncode:
            raise SystemExit(f"Ray did not start: {done.stdout[-500:]} {done.stderr[-1500:]}")
    return f"http://127.0.0.1:{http}"


@contextmanager
def bare_ray(application: str) -> Iterator[tuple[str, str]]:
    """Give the name and the URL of one, and end it whatever happens."""
    name = f"bench{os.getpid()}"
    try:
        yield name, start_bare_ray(name, application)
    finally:
        stop_bare_ray(name)


def stop_bare_ray(name: str) -> None:
    """End it and remove its folder."""
    stop_head(name)
    shutil.rmtree(temp_dir(name), ignore_errors=True)
