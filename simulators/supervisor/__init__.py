"""The process that runs a box's commands to one certain end, told by files of its control folder."""

from simulators.supervisor.calls import STARTED, call
from simulators.supervisor.control import (
    COMPLAINTS,
    HEARTBEAT,
    MEMBERS,
    PID,
    PLAN,
    SAMPLES,
    STATE,
    STDERR,
    STDOUT,
    STOP,
    TEMP,
    boot,
    remove_tree,
)
from simulators.supervisor.processes import (
    Process,
    descendants,
    kill_all,
    marked,
    read_process,
    read_processes,
    read_small,
)

__all__ = [
    "COMPLAINTS",
    "HEARTBEAT",
    "MEMBERS",
    "PID",
    "PLAN",
    "SAMPLES",
    "STARTED",
    "STATE",
    "STDERR",
    "STDOUT",
    "STOP",
    "TEMP",
    "Process",
    "boot",
    "call",
    "descendants",
    "kill_all",
    "marked",
    "read_process",
    "read_processes",
    "read_small",
    "remove_tree",
]
