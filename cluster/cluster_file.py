"""The file of Ray's autoscaler on the head, as far as we write it.

`ray up` puts it there, made of the operator's cluster file. Version 2 of the autoscaler reads it anew every few
seconds, so a group's size and how its machines start are said by rewriting it. A machine group is a node type of it
with our label. What we write is always made of the whole file as `ray up` left it, which is kept beside it.
"""

from __future__ import annotations

import base64
import copy
import difflib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from cluster.boot import cloud_of
from cluster.errors import ClusterFileBroken
from cluster.fleet import Room, offered_memory
from cluster.group_record import GROUPS, OPTIONS
from cluster.labels import GENERATION_TAG, GROUP_LABEL, LAUNCHES, PROVIDERS
from cluster.machine_types import find_type, list_types
from cluster.provider import cloud_name
from simyard.errors import InvalidInput
from simyard.group import Market
from storage.settings import Settings

_PYTHON = "/opt/simyard/.venv/bin/python"
_IDLE_MINUTES = 5
"""What Ray takes where the file says nothing."""
_CLIENTS = {
    "gcp": "google-api-python-client",
    # Later releases of azure-mgmt-resource lack names that Ray imports.
    "azure": "azure-identity azure-common azure-mgmt-compute azure-mgmt-network 'azure-mgmt-resource<25' msrestazure",
}
"""The packages that Ray's providers import and that do not come with Ray, by cloud."""
_MARK = "written_by_simyard"
_SERVER = "SIMYARD_SERVER"
_FOR_MACHINES = (
    _SERVER,
    "SIMYARD_STORAGE",
    "SIMYARD_LEASE_SECONDS",
    "SIMYARD_WARM_SECONDS",
    "SIMYARD_KEEP_INPUTS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_memory_monitor_refresh_ms",
)


@dataclass(frozen=True, kw_only=True)
class GroupType:
    """A node type of a machine group."""

    name: str
    machine_type: str
    """As the provider calls it."""
    market: Market
    most: int
    shape: Room
    """What one of its machines offers to tasks."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A machine group: one node type, or several of which the first is taken while it can be had."""

    name: str
    types: tuple[GroupType, ...]
    least: int
    most: int
    idle: float
    """Seconds for which an idle machine is kept."""
    mpi: bool = False
    """It has all of its machines, of one node type, or none."""

    @property
    def shape(self) -> Room:
        """What each of its machines offers to tasks, whatever its type."""
        shapes = [one.shape for one in self.types]
        return Room(
            cpus=min(shape.cpus for shape in shapes),
            memory=min(shape.memory for shape in shapes),
            gpus=min(shape.gpus for shape in shapes),
            disk=min(shape.disk for shape in shapes),
        )


class ClusterFile:
    """The autoscaler's file and, beside it, what `ray up` had written there.

    Args:
        path: where the autoscaler reads it.
        kept: where a copy of what `ray up` wrote is kept.
    """

    def __init__(self, path: Path, kept: Path) -> None:
        self._path, self._kept = path, kept
        self._read: tuple[object, dict[str, Any]] | None = None

    def read(self) -> dict[str, Any]:
        """Return the document as `ray up` wrote it; a newer one takes the place of the copy.

        Raises:
            ClusterFileBroken: there is none, or it cannot be read.
        """
        seen = stamp_of(self._path), stamp_of(self._kept)
        if self._read is not None and self._read[0] == seen:
            return self._read[1]
        document = self._read_anew()
        self._read = seen, document
        return document

    def _read_anew(self) -> dict[str, Any]:
        found = _load(self._path)
        if _is_ours(found):
            return _load(self._kept)
        _replace(self._kept, self._path.read_text())
        return found

    @property
    def launches(self) -> Path:
        """Where the autoscaler's process keeps why machines could not be started."""
        return self._kept.with_name("launches.json")

    def stamp(self) -> tuple[int, int]:
        """Return what changes whenever somebody writes the file; zeros where there is none."""
        return stamp_of(self._path)

    def live(self) -> dict[str, Any]:
        """Return the document as the autoscaler reads it now.

        Raises:
            ClusterFileBroken: there is none, or it cannot be read.
        """
        return _load(self._path)

    def sizes(self) -> dict[str, int]:
        """Return how many machines of each node type were asked for last; none where that was not us.

        Raises:
            ClusterFileBroken: the file cannot be read.
        """
        found = self.live()
        if not _is_ours(found):
            return {}
        return {name: int(one.get("min_workers", 0)) for name, one in found.get("available_node_types", {}).items()}

    def write(self, document: Mapping[str, Any]) -> bool:
        """Let the autoscaler read this document from now on; says whether it is another one than before."""
        marked = copy.deepcopy(dict(document))
        marked.setdefault("metadata", {}).setdefault(OPTIONS, {})[_MARK] = True
        text = yaml.safe_dump(marked, sort_keys=False)
        if self._path.read_text() == text:
            return False
        _replace(self._path, text)
        return True


def _load(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ClusterFileBroken(f"{path} cannot be read: {error}.", fix="Run `ray up` again.") from error
    if not isinstance(found, dict):
        raise ClusterFileBroken(f"{path} is no cluster file.", fix="Run `ray up` again.")
    return found


def _is_ours(document: Mapping[str, Any]) -> bool:
    """Say whether a cluster file is as we write it, and not as `ray up` does."""
    return bool(document.get("metadata", {}).get(OPTIONS, {}).get(_MARK))


def check_document(document: Mapping[str, Any]) -> None:
    """Return where Ray takes a cluster file, and every group's machines are known.

    Raises:
        InvalidInput: a key is unknown or a value is wrong, where it stands is the error's field; or what Ray's provider
            of the cloud imports is not installed here.
    """
    cloud = cloud_name(document)
    if (packages := _CLIENTS.get(cloud)) is not None:
        try:
            import_module(PROVIDERS[cloud].rpartition(".")[0])
        except ImportError as error:
            reason = f"Ray needs the cloud's own packages, which are not all here: {error}."
            fix = f"Install them here, and into the machines' image: pip install {packages}"
            raise InvalidInput(reason, field="provider.type", fix=fix) from error
    # Late: it takes seconds, and only who starts a cluster's head needs it.
    from jsonschema import ValidationError  # type: ignore[import-untyped]  # it has no types
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    try:
        validate_config(fillout_defaults(copy.deepcopy(dict(document))))
    except ValidationError as error:
        field = ".".join(str(part) for part in error.absolute_path) or None
        known = sorted(error.schema.get("properties", {})) if error.validator == "additionalProperties" else []
        wrong = [name for name in error.instance if name not in known] if known else []
        near = difflib.get_close_matches(wrong[0], known, n=1, cutoff=0.5) if wrong else []
        fix = f"Did you mean {near[0]}?" if near else "docs/how-to/from-laptop-to-cloud.md shows a whole one."
        raise InvalidInput(f"{error.message}.", field=field, fix=fix) from None
    except (ValueError, KeyError, RuntimeError) as error:
        raise InvalidInput(f"Ray refuses it: {error}.", fix="Run `ray up` with it once more.") from error
    groups_of(document)


def groups_of(document: Mapping[str, Any]) -> tuple[Group, ...]:
    """Return the machine groups: the node types with the same label, in their order.

    Raises:
        InvalidInput: nobody knows what a machine of one offers.
    """
    types: dict[str, list[GroupType]] = {}
    least: dict[str, int] = {}
    idle: dict[str, float] = {}
    usual = float(document.get("idle_timeout_minutes", _IDLE_MINUTES)) * 60
    for name, node_type in document.get("available_node_types", {}).items():
        group = (node_type.get("labels") or {}).get(GROUP_LABEL)
        if group is None or name == document.get("head_node_type"):
            continue
        config = node_type.get("node_config", {})
        _, cloud = cloud_of(name, config)
        kind = cloud.machine_type(config)
        one = GroupType(
            name=name,
            machine_type=kind,
            market=cloud.market(config),
            most=node_type.get("max_workers", document.get("max_workers", 0)),
            shape=_shape(
                f"{name}.node_config.{cloud.field}", kind, node_type.get("resources") or {}, cloud.disk(config)
            ),
        )
        types.setdefault(group, []).append(one)
        idle.setdefault(group, float(node_type.get("idle_timeout_s") or usual))
        least[group] = least.get(group, 0) + node_type.get("min_workers", 0)
    limits = document.get("metadata", {}).get(OPTIONS, {}).get(GROUPS, {})
    return tuple(
        Group(
            name=group,
            types=tuple(found),
            least=limits.get(group, {}).get("min", least[group]),
            most=limits.get(group, {}).get("max", sum(one.most for one in found)),
            idle=idle[group],
            mpi=limits.get(group, {}).get("mpi", False),
        )
        for group, found in types.items()
    )


def _shape(where: str, kind: str, said: Mapping[str, Any], disk: float) -> Room:
    """Return what a machine offers to tasks: as the file says it, or as its machine type has it."""
    if {"CPU", "memory"} <= said.keys():
        return Room(cpus=said["CPU"], memory=said["memory"], gpus=said.get("GPU", 0), disk=disk)
    known = find_type(kind, list_types(), field=f"available_node_types.{where}")
    memory = said.get("memory", offered_memory(known.memory))
    return Room(cpus=said.get("CPU", known.cpus), memory=memory, gpus=said.get("GPU", known.gpus), disk=disk)


def live_document(
    document: Mapping[str, Any], sizes: Mapping[str, int], head: str, environment: Mapping[str, str], launches: Path
) -> dict[str, Any]:
    """Return the document that the autoscaler is to read: node types of these sizes, whose machines join by themselves.

    `sizes` has the machines of each node type, those that are left out have as few as the file says; `head` is the
    address of Ray's head; `environment` is what each machine's processes need to know;
    `launches` is the file into which the provider writes why machines could not be started.
    """
    # Ray fills this in for its own providers alone.
    made = {"cluster_synced_files": []} | copy.deepcopy(dict(document))
    # The updaters over SSH cannot start machines of a type that was added later.
    made["provider"] = dict(made["provider"]) | {"disable_node_updaters": True}
    if (ours := PROVIDERS.get(made["provider"]["type"])) is not None:
        made["provider"] |= {"type": "external", "module": ours, LAUNCHES: str(launches)}
    options = made.get("metadata", {}).get(OPTIONS, {})
    left = document.get("max_workers", 0)
    for name, one in [(group.name, one) for group in groups_of(document) for one in group.types]:
        node_type = made["available_node_types"][one.name]
        # The autoscaler refuses a file that asks for more than the cluster may have, and then scales nothing.
        size = min(left, one.most, max(0, sizes.get(one.name, node_type.get("min_workers", 0))))
        left -= size
        node_type["min_workers"], node_type["max_workers"] = size, one.most
        node_type["resources"] = {"CPU": int(one.shape.cpus), "memory": one.shape.memory} | (
            {"GPU": one.shape.gpus} if one.shape.gpus else {}
        )
        config = node_type["node_config"]
        cloud, node_config = cloud_of(one.name, config)
        tags = {GROUP_LABEL: name} | ({GENERATION_TAG: environment[_SERVER]} if _SERVER in environment else {})
        config = node_config.tagged(config, tags)
        plan = {
            "head": head,
            "group": name,
            "type": one.name,
            "memory": one.shape.memory,
            "cpus": one.shape.cpus,
            "cloud": cloud,
        }
        if (ends := options.get(GROUPS, {}).get(name, {}).get("ends_at")) is not None:
            plan["ends_at"] = ends
        if "lost_seconds" in options:
            plan["lost_seconds"] = _seconds(options["lost_seconds"])
        script = boot_script(
            plan, environment, python=options.get("python", _PYTHON), setup=tuple(options.get("worker_setup", ()))
        )
        node_type["node_config"] = node_config.with_script(config, script)
    return made


def _seconds(said: object) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float) or not said > 0:
        field, fix = "metadata.simyard.lost_seconds", "Write a number of seconds, such as 600."
        raise InvalidInput(f"{said!r} is no time.", field=field, fix=fix)
    return float(said)


def machine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of the head's variables that the processes of other machines need."""
    kept = {name: environment[name] for name in _FOR_MACHINES if name in environment}
    # A head that is away for minutes comes back to its machines, and not to none.
    return kept | {"RAY_gcs_rpc_server_reconnect_timeout_s": "900"}


def boot_script(
    plan: Mapping[str, Any], environment: Mapping[str, str], *, python: str, setup: tuple[str, ...] = ()
) -> str:
    """Return the script that a machine runs when it boots: the operator's lines, then the program that joins."""
    told = base64.b64encode(json.dumps({"plan": plan, "environment": environment}).encode()).decode()
    lines = ["#!/bin/bash", *setup, f"echo {told} | base64 -d | exec {shlex.quote(python)} -m cluster.join"]
    return "\n".join(lines) + "\n"


def cluster_of(settings: Settings) -> ClusterFile | None:
    """Return the autoscaler's file that the settings name; None for a server on one machine."""
    return None if settings.cluster_file is None else ClusterFile(settings.cluster_file, settings.kept_cluster_file)


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what changes whenever somebody replaces or writes a file; zeros where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_ino, stat.st_mtime_ns


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)
