"""The HTTP face as a Ray Serve deployment, and the program that puts it onto a running Ray.

`python -m serve.deployment ADDRESS HOST PORT` starts the dispatcher and Serve on the Ray at an address, and returns
once both are asked for; they go on without it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import ray
from ray import serve as ray_serve

from cluster.bare_worker import leave_arrow_out
from cluster.cluster_file import cluster_of, machine_environment
from cluster.machine_types import catalogue_file
from cluster.server_mark import server_name
from serve.face import Face
from storage.objects import open_store
from storage.rooms import check_rooms
from storage.settings import load_settings
from tasks.price_list import PriceList
from tasks.ray_live import RayDispatcher, RayLive
from tasks.reporting import NAMESPACE
from tasks.store import open_store as open_task_store

if TYPE_CHECKING:
    from fastapi import FastAPI


def build() -> FastAPI:
    """Return the application of a replica, over the store and the storage that the settings name."""
    from serve.api import build_app
    from serve.collector import calm
    from serve.context import Context, Door
    from serve.join_tokens import JoinTokens
    from serve.secret import join_tokens_file, load_secret

    check_rooms()
    settings = load_settings()
    dispatcher = RayDispatcher(settings.dispatcher_bell)
    calm()
    return build_app(
        Context(
            store=open_task_store(settings.task_store),
            storage=open_store(settings.storage_uri),
            live=RayLive(),
            waker=dispatcher,
            groups=dispatcher.groups,
            secret=load_secret(settings),
            machine_types=catalogue_file(settings.data_dir),
            cluster=cluster_of(settings),
            cloud=dispatcher.cloud,
            prices=PriceList(cluster_of(settings), catalogue_file(settings.data_dir)).look,
            door=Door(
                server=server_name(),
                head=ray.get_runtime_context().gcs_address,
                environment=machine_environment(os.environ),
                tokens=JoinTokens(join_tokens_file(settings)),
            ),
        )
    )


class Replica:
    """The HTTP face in a replica of Serve's, which makes it, asks for its health and replaces it."""

    def __init__(self, host: str, port: int) -> None:
        self._face = Face(build(), host, port)

    def check_health(self) -> None:
        """Raise where nobody answers any more."""
        self._face.check_health()


def deploy(address: str, host: str, port: int) -> None:
    """Start the dispatcher and the HTTP face on the Ray at `address`."""
    # A replica imports this module too, and has no use for all that a dispatcher needs.
    from tasks.dispatcher import start_dispatcher

    leave_arrow_out()
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    start_dispatcher()
    ray_serve.start(proxy_location="Disabled")
    api = ray_serve.deployment(
        name="api",
        # It is also how long nobody sees that the replica has died.
        health_check_period_s=1,
        health_check_timeout_s=10,
        # Nobody sends it requests by way of Serve: there is nothing to wait for.
        graceful_shutdown_timeout_s=0,
        graceful_shutdown_wait_loop_s=0,
        # On the head, and on no machine that would cost money only to answer requests.
        ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(Replica)
    ray_serve.run(api.bind(host, port), name="simyard", route_prefix=None, blocking=False)


if __name__ == "__main__":
    deploy(sys.argv[1], sys.argv[2], int(sys.argv[3]))
