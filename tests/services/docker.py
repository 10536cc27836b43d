"""A docker daemon of the tests' own, for machines on which none runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SECONDS = 60.0


def _answers() -> bool:
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=30).returncode == 0


@contextmanager
def docker_daemon() -> Iterator[None]:
    """Make `docker` work: by the machine's own daemon where one runs, else by one that is started here."""
    if shutil.which("docker") is None or (shutil.which("dockerd") is None and not _answers()):
        pytest.skip("needs docker: apt-get install docker.io")
    if _answers():
        yield
        return
    if os.getuid() != 0:
        pytest.skip("no docker daemon runs here, and only root may start one")
    # A socket's path may have 107 bytes at most, so this folder's name is short.
    home = Path(tempfile.mkdtemp(prefix="simyard-docker-"))
    socket = f"unix://{home}/docker.sock"
    folders = [f"--data-root={home}/data", f"--exec-root={home}/exec", f"--pidfile={home}/pid", f"--host={socket}"]
    # It shall not touch the machine's network: simulations get none.
    network = ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(["dockerd", *folders, *network], stdin=subprocess.DEVNULL, stdout=log, stderr=log) as daemon,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_HOST", socket)
        try:
            deadline = time.monotonic() + _SECONDS
            while not _answers():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((home / "log").read_text(errors="replace")[-2000:])
                time.sleep(0.2)
            yield
        finally:
            # Asked to end, it takes its containerd and its mounts with it.
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
    shutil.rmtree(home)
