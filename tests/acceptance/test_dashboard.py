"""Ray's dashboard, shown while somebody looks at it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.head import free_port
from tests.running_server import SIMYARD, RunningServer, those, until


def dashboards(server: RunningServer) -> list[psutil.Process]:
    """Return the living processes of the server's dashboard."""
    return server.processes("ray-dashboard") + those(
        server.processes(), lambda process: "ray.dashboard.dashboard" in process.cmdline()
    )


@contextmanager
def shown(server: RunningServer) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Give the command that shows the dashboard, where it answers, and the token."""
    command = [SIMYARD, "admin", "ray-dashboard", f"--port={free_port()}"]
    with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            token = process.stdout.readline().split()[-1]
            yield process, url, token
        finally:
            process.kill()


@pytest.mark.timeout(300)
def test_it_shows_the_server_s_actors_to_who_has_the_token_and_nothing_of_it_stays(server: RunningServer) -> None:
    with shown(server) as (process, url, token), httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        assert "<title>Ray Dashboard</title>" in http.get("/").text
        assert http.get("/logical/actors").status_code == 401
        told = http.get("/logical/actors", headers={"Authorization": f"Bearer {token}"}).json()
        assert "dispatcher" in {actor["name"] for actor in told["data"]["actors"].values()}
        asked = {"headers": {"Authorization": f"Bearer {token}"}, "params": {"view": "summary"}}
        # The machine's agent sleeps until then.
        machine = until(
            lambda: "cpu" in (found := http.get("/nodes", **asked).json()["data"]["summary"][0]) and found, 60
        )
        assert (machine["ip"], machine["cpus"][0]) == (machine["raylet"]["nodeManagerAddress"], psutil.cpu_count())
        lists = {"node_id": machine["raylet"]["nodeId"]}
        files = http.get("/api/v0/logs", headers=asked["headers"], params=lists).json()["data"]["result"]
        assert "gcs_server.out" in files["gcs_server"]
        listening = [one for p in dashboards(server) for one in p.net_connections("tcp") if one.status == "LISTEN"]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}, "the network does not see it"
        port = url.rpartition(":")[2]
        refused = server.simyard("admin", "ray-dashboard", f"--port={port}")
        assert (refused.returncode, f"Port {port} is taken" in refused.stderr) == (2, True), refused.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert dashboards(server) == []


@pytest.mark.timeout(300)
def test_nothing_of_it_stays_where_its_command_is_killed(server: RunningServer) -> None:
    with shown(server) as (process, _, _):
        assert dashboards(server)
        process.kill()
        process.wait()
        until(lambda: dashboards(server) == [], 30, what="the end of the dashboard")


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    refused = RunningServer(tmp_path).simyard("admin", "ray-dashboard")
    assert refused.returncode == 3
    assert re.search(r"No server of .* runs here\. Give the command where it runs\.", refused.stderr), refused.stderr
