"""The program that holds a machine's Ray processes: what the head's are, without those that a head has.

`python -m cluster.bare_member` reads the keyword arguments of :func:`run`, a JSON object, from the first line of its
standard input. Each later one says in how many seconds the machine will be taken away: `drain SECONDS` lets what runs
go on, `leave SECONDS` has it saved and given back. The program ends when the raylet does, and ends the raylet when it
is told to end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil
from ray._private.node import Node
from ray._private.services import get_node_ip_address
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray has no types here
from ray.core.generated import autoscaler_pb2

from cluster.bare_node import bare_params
from cluster.carriers import carriers_of
from cluster.fork_server import FORK_SERVER, MEMBER_MODULES, ForkServer
from cluster.forked import ADDRESS
from cluster.labels import LET_GO
from cluster.server_mark import server_name
from cluster.server_mark import temp_dir as default_temp_dir

_TICK = 0.5


def run(
    *,
    gcs_address: str,
    cpus: float,
    memory: int,
    object_store_memory: int,
    labels: dict[str, str],
    gpus: int | None = None,
    temp_dir: str | None = None,
) -> int:
    """Join the head at an address, and return once the raylet has ended: LET_GO where Ray wanted it so, else 1.

    By default the machine offers the GPUs that Ray finds, and has its sockets and logs where the head has its own.

    Raises:
        Exception: whatever Ray says when it cannot join.
    """
    folder = Path(temp_dir or default_temp_dir(server_name()))
    fork_server = ForkServer(folder / f"{FORK_SERVER}-{os.getpid()}", MEMBER_MODULES, {})
    fork_server.start()
    os.environ[ADDRESS] = str(fork_server.path)
    node = Node(
        bare_params(
            gcs_address=gcs_address,
            node_ip_address=_own_address(gcs_address),
            num_cpus=int(cpus),
            num_gpus=gpus,
            memory=memory,
            object_store_memory=object_store_memory,
            labels=labels,
            temp_dir=temp_dir,
        ),
        head=False,
        shutdown_at_exit=True,
        spawn_reaper=False,
    )
    print(f"{gcs_address} has taken this machine", file=sys.stderr, flush=True)  # noqa: T201 - the machine's own log

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=_heed_notices, args=(node, gcs_address), name="notices", daemon=True).start()
    while not (dead := node.dead_processes()):  # type: ignore[no-untyped-call]
        time.sleep(_TICK)
        if fork_server.mend():
            print("the fork server has died; starting it again", file=sys.stderr, flush=True)  # noqa: T201 - likewise
    node.kill_all_processes(check_alive=False, allow_graceful=False)
    told = ", ".join(f"{kind} {process.returncode}" for kind, process in dead)
    print(f"Ray's processes have ended: {told}", file=sys.stderr, flush=True)  # noqa: T201 - the machine's own log
    # A raylet that is drained ends by itself and well; one that has lost its head does not.
    return LET_GO if all(process.returncode == 0 for _, process in dead) else 1


def _own_address(gcs_address: str) -> str:
    """Return this machine's address as its neighbours reach it; beside the head on one host, the head's own."""
    beside = gcs_address.startswith("127.")
    return str(get_node_ip_address() if beside else get_node_ip_address(gcs_address))  # type: ignore[no-untyped-call]


def _heed_notices(node: Node, gcs_address: str) -> None:
    """Do what each line says, in time before the machine is taken away."""
    for line in sys.stdin:
        word, seconds = line.split()
        ends_ms = int((time.time() + float(seconds)) * 1000)
        reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]  # likewise
        # First nothing more is placed here; then what carries a run saves it and gives it back.
        try:
            GcsClient(address=gcs_address).drain_node(node.node_id, reason, "The machine is taken away.", ends_ms)
        except Exception as error:  # noqa: BLE001 - Ray raises whatever its C++ does, and the runs are saved all the same
            print(f"the head does not hear of it: {error}", file=sys.stderr, flush=True)  # noqa: T201 - likewise
        if word == "drain":
            continue
        for process in carriers_of(psutil.Process()):
            with suppress(psutil.Error):
                process.terminate()


if __name__ == "__main__":
    sys.exit(run(**json.loads(sys.stdin.readline())))
