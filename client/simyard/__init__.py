"""Simyard for its users: the words as types, the Python client and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simyard.checkpoint import Checkpoint as Checkpoint
    from simyard.checkpoint import Snapshot as Snapshot
    from simyard.client import Client as Client
    from simyard.collection import Sweep as Sweep
    from simyard.dependency import Dependency as Dependency
    from simyard.dependency import DependencyEnd as DependencyEnd
    from simyard.dependency import IfDependencyFails as IfDependencyFails
    from simyard.dependency import InputFrom as InputFrom
    from simyard.download import Downloaded as Downloaded
    from simyard.errors import Conflict as Conflict
    from simyard.errors import Damaged as Damaged
    from simyard.errors import InputsMissing as InputsMissing
    from simyard.errors import InvalidInput as InvalidInput
    from simyard.errors import NotFound as NotFound
    from simyard.errors import NotInstalled as NotInstalled
    from simyard.errors import SimyardError as SimyardError
    from simyard.errors import StillGoing as StillGoing
    from simyard.errors import TooLarge as TooLarge
    from simyard.errors import Unauthorized as Unauthorized
    from simyard.errors import Unavailable as Unavailable
    from simyard.errors import UnreadableInput as UnreadableInput
    from simyard.event import Event as Event
    from simyard.event import EventKind as EventKind
    from simyard.event import LogStream as LogStream
    from simyard.event import Sample as Sample
    from simyard.files import InputFile as InputFile
    from simyard.files import ManifestEntry as ManifestEntry
    from simyard.files import Staged as Staged
    from simyard.group import Machine as Machine
    from simyard.group import MachineGroup as MachineGroup
    from simyard.handle import Task as Task
    from simyard.handle import TaskFile as TaskFile
    from simyard.machine_type import MachineType as MachineType
    from simyard.machine_type import Price as Price
    from simyard.progress import Stage as Stage
    from simyard.progress import Transferred as Transferred
    from simyard.project import Project as Project
    from simyard.reason import Reason as Reason
    from simyard.reason import ReasonCode as ReasonCode
    from simyard.rental import GroupCost as GroupCost
    from simyard.rental import RentedMachine as RentedMachine
    from simyard.resources import Limits as Limits
    from simyard.resources import Resources as Resources
    from simyard.retry import Retry as Retry
    from simyard.simulator import Command as Command
    from simyard.simulator import Parameter as Parameter
    from simyard.simulator import RuntimeName as RuntimeName
    from simyard.simulator import SimulatorInfo as SimulatorInfo
    from simyard.status import Status as Status
    from simyard.sweep import Sweep as SweepInfo
    from simyard.sweep import SweepSpec as SweepSpec
    from simyard.sweep import TableFile as TableFile
    from simyard.sweep import TableForm as TableForm
    from simyard.task import Attempt as Attempt
    from simyard.task import Case as Case
    from simyard.task import Explanation as Explanation
    from simyard.task import Task as TaskInfo
    from simyard.task import TaskSpec as TaskSpec

__all__ = [
    "Attempt",
    "Case",
    "Checkpoint",
    "Client",
    "Command",
    "Conflict",
    "Damaged",
    "Dependency",
    "DependencyEnd",
    "Downloaded",
    "Event",
    "EventKind",
    "Explanation",
    "GroupCost",
    "IfDependencyFails",
    "InputFile",
    "InputFrom",
    "InputsMissing",
    "InvalidInput",
    "Limits",
    "LogStream",
    "Machine",
    "MachineGroup",
    "MachineType",
    "ManifestEntry",
    "NotFound",
    "NotInstalled",
    "Parameter",
    "Price",
    "Project",
    "Reason",
    "ReasonCode",
    "RentedMachine",
    "Resources",
    "Retry",
    "RuntimeName",
    "Sample",
    "SimulatorInfo",
    "SimyardError",
    "Snapshot",
    "Stage",
    "Staged",
    "Status",
    "StillGoing",
    "Sweep",
    "SweepInfo",
    "SweepSpec",
    "TableFile",
    "TableForm",
    "Task",
    "TaskFile",
    "TaskInfo",
    "TaskSpec",
    "TooLarge",
    "Transferred",
    "Unauthorized",
    "Unavailable",
    "UnreadableInput",
]

# A name's module is imported when the name is first asked for: `simyard --version` and a server that only needs the
# types do not pay for an HTTP client.
_HOMES = {
    "simyard.checkpoint": ("Checkpoint", "Snapshot"),
    "simyard.client": ("Client",),
    "simyard.collection": ("Sweep",),
    "simyard.dependency": ("Dependency", "DependencyEnd", "IfDependencyFails", "InputFrom"),
    "simyard.download": ("Downloaded",),
    "simyard.errors": (
        "Conflict",
        "Damaged",
        "InputsMissing",
        "InvalidInput",
        "NotFound",
        "NotInstalled",
        "SimyardError",
        "StillGoing",
        "TooLarge",
        "Unauthorized",
        "Unavailable",
        "UnreadableInput",
    ),
    "simyard.event": ("Event", "EventKind", "LogStream", "Sample"),
    "simyard.files": ("InputFile", "ManifestEntry", "Staged"),
    "simyard.group": ("Machine", "MachineGroup"),
    "simyard.handle": ("Task", "TaskFile"),
    "simyard.machine_type": ("MachineType", "Price"),
    "simyard.progress": ("Stage", "Transferred"),
    "simyard.project": ("Project",),
    "simyard.reason": ("Reason", "ReasonCode"),
    "simyard.rental": ("GroupCost", "RentedMachine"),
    "simyard.resources": ("Limits", "Resources"),
    "simyard.retry": ("Retry",),
    "simyard.simulator": ("Command", "Parameter", "RuntimeName", "SimulatorInfo"),
    "simyard.status": ("Status",),
    "simyard.sweep": ("SweepSpec", "TableFile", "TableForm"),
    "simyard.task": ("Attempt", "Case", "Explanation", "TaskSpec"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "TaskInfo":
        return importlib.import_module("simyard.task").Task
    if name == "SweepInfo":
        return importlib.import_module("simyard.sweep").Sweep
    if name not in _HOME:
        raise AttributeError(f"module 'simyard' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
