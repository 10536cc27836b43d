"""A Ray node with what a server needs of it: a head's control store, and the raylet.

`ray start --head` starts five Python programs beside them, each of which imports Ray for seconds of CPU and then holds
50 to 100 MiB: the autoscaler's monitor, the dashboard's host for usage statistics, its agent, the Ray Client and the
log forwarder. A server on one machine asks none of them anything. The command line itself imports the whole of Serve
before it begins. Decision 0023 has the figures.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from ray._private import services, utils
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.ray_constants import (
    PROCESS_TYPE_DASHBOARD_AGENT,
    PROCESS_TYPE_RUNTIME_ENV_AGENT,
)
from ray._private.services import get_node_ip_address
from ray._raylet import GcsClient, NodeID  # type: ignore[attr-defined]  # Ray has no types here
from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoRequest  # type: ignore[attr-defined]  # likewise

from cluster.fork_server import FORKED

_REGISTER_SECONDS = 30.0
_LOOK_SECONDS = 0.03


class BareHead(Node):
    """A head of two processes, its agents aside."""

    def start_api_server(self, **_: object) -> None:
        """Start no dashboard: :mod:`cluster.dashboard` does, for as long as somebody looks at it."""


def start_node(
    *,
    port: int,
    temp_dir: str,
    cpus: int,
    memory: int,
    object_store_memory: int,
    agent_port: int,
    labels: dict[str, str],
    cluster_file: str | None = None,
    address: str | None = None,
) -> None:
    """Start the head and return once it takes drivers; it goes on without this process.

    With a cluster file it also starts Ray's autoscaler, which reads it. `address` is where other machines reach this
    one, by default what Ray finds.

    Raises:
        Exception: whatever Ray says when it does not start.
    """
    BareHead(
        bare_params(
            node_ip_address=address or get_node_ip_address(),  # type: ignore[no-untyped-call]  # Ray has no types here
            gcs_server_port=port,
            temp_dir=temp_dir,
            num_cpus=cpus,
            memory=memory,
            object_store_memory=object_store_memory,
            dashboard_agent_listen_port=agent_port,
            labels=labels,
            include_dashboard=False,
            no_monitor=cluster_file is None,
            autoscaling_config=cluster_file,
        ),
        head=True,
        shutdown_at_exit=False,
        spawn_reaper=False,
    )


def bare_params(**own: Any) -> RayParams:
    """Return the parameters of a node, with what a head and another machine have alike; changes Ray in this process."""
    services._build_python_executable_command_memory_profileable = _python
    # To see whether its dashboard is installed Ray imports half of it.
    utils.get_dashboard_dependency_error = lambda: ImportError("not wanted")
    services.get_node = _registered
    # Ray looks once a second, ten times, whether a socket that it has just made can be reached.
    os.environ |= {
        "RAY_raylet_client_connect_timeout_milliseconds": "20",
        "RAY_raylet_client_num_connect_attempts": "500",
    }
    return RayParams(
        worker_path=str(Path(__file__).with_name("bare_worker.py")),
        setup_worker_path=FORKED,
        include_log_monitor=False,  # type: ignore[arg-type]  # Ray names the wrong type
        **own,
    )


def _python(component: str, *_: object, **__: object) -> list[str]:
    """Return the beginning of the command line of a program of Ray's in Python; its file follows."""
    if component in {PROCESS_TYPE_DASHBOARD_AGENT, PROCESS_TYPE_RUNTIME_ENV_AGENT}:
        return [sys.executable, "-IS", str(Path(__file__).with_name("bare_agent.py"))]
    return [sys.executable, "-u"]


_get_node = services.get_node


def _registered(gcs_address: str, node_id: str) -> Any:
    """Return what Ray's function of this place returns, which looks for a raylet only once a second."""
    client = GcsClient(address=gcs_address)
    wanted = [GetAllNodeInfoRequest.NodeSelector(node_id=NodeID.from_hex(node_id).binary())]
    deadline = time.monotonic() + _REGISTER_SECONDS
    while not client.get_all_node_info(timeout=_REGISTER_SECONDS, node_selectors=wanted):
        if time.monotonic() > deadline:
            break  # Ray says what is wrong
        time.sleep(_LOOK_SECONDS)
    return _get_node(gcs_address, node_id)  # type: ignore[no-untyped-call]  # Ray has no types here
