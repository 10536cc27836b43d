"""A machine group that somebody has made by a command, as the store keeps it, and its part of the cluster file.

Such a group is one node type for each machine type and market that it may take, made of the node type of the cluster
file's group `local`. A node type's name has the group's id, so that a group that is made anew under an old name shares
nothing with machines that are still ending.
"""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from cluster.boot import cloud_of
from cluster.labels import GROUP_LABEL, TOGETHER
from cluster.machine_types import find_type
from cluster.provider import cloud_name
from simyard.errors import Conflict, InvalidInput
from simyard.group import GroupChange, GroupSpec, Market
from simyard.machine_type import MachineType
from simyard.resources import GIB
from simyard.submission import refusal_of
from simyard.task import LOCAL_GROUP
from simyard.words import Moment, Word

OPTIONS = "simyard"
"""Our own part of the cluster file's `metadata`."""
GROUPS = "groups"
"""The key of that part under which the limits of whole groups stand."""
_GOOGLES_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
"""Names that are labels of Google's, too, alone and with more before or after them."""


class GroupRecord(Word):
    """A machine group that somebody has made."""

    id: str
    spec: GroupSpec
    user: str
    created_at: Moment
    ending_since: Moment | None = None
    """Since when no further task starts in it."""
    stops: bool = False
    """Whether what runs in it is cancelled."""
    drained_at: Moment | None = None
    """Since when nothing runs in it, and its machines are being ended."""
    ended_at: Moment | None = None
    """Since when it has no machine; its name is free."""


def new_record(spec: GroupSpec, user: str, now: datetime) -> GroupRecord:
    """Return the record of a group that begins."""
    return GroupRecord(id=secrets.token_hex(3), spec=spec, user=user, created_at=now)


def changed_meanwhile(record: GroupRecord) -> Conflict:
    """Return what is said where a group cannot be kept, since it or its name is not any more what it was."""
    fix = f"Look at it with `simyard groups info {record.spec.name}`, and try again."
    return Conflict(f"The group {record.spec.name} was made or changed meanwhile.", field="name", fix=fix)


def markets_of(market: Market) -> tuple[Market, ...]:
    """Return how machines are bought, in the order in which it is tried."""
    if market is Market.SPOT_THEN_ON_DEMAND:
        return Market.SPOT, Market.ON_DEMAND
    return (market,)


def check_spec(
    spec: GroupSpec, document: Mapping[str, Any], types: Sequence[MachineType], taken: Sequence[str], now: datetime
) -> None:
    """Return where the cluster of that file can have the group.

    `taken` are the names of the groups that there are.

    Raises:
        InvalidInput: a machine type is unknown, another provider's or not sold so, the cluster may not have as many
            machines, or the end is not ahead.
        Conflict: the name is taken.
    """
    if spec.name in taken:
        fix = "Take another name; `simyard groups list` shows those that are taken."
        raise Conflict(f"There is a group {spec.name} already.", field="name", fix=fix)
    provider = cloud_name(document)
    if provider == "gcp" and not _GOOGLES_NAME.fullmatch(spec.name):
        fix = "Take lower-case letters, digits and hyphens."
        raise InvalidInput(f"Google Cloud takes no label {spec.name!r}.", field="name", fix=fix)
    for i, name in enumerate(spec.machine_types):
        field = f"machine_types.{i}"
        if not (sold := [one for one in types if one.provider == provider]):
            fix = "Put a node type with its resources into the cluster file, and run `ray up` again."
            raise InvalidInput(f"The catalogue has no machine types of {provider}.", field=field, fix=fix)
        known = find_type(name, sold, field=field)
        if Market.SPOT in markets_of(spec.market) and not known.has_spot:
            raise InvalidInput(f"{name} is not sold as spot.", field=field, fix="Ask for it on demand.")
    check_size(spec, document, now)


def check_size(spec: GroupSpec, document: Mapping[str, Any], now: datetime) -> None:
    """Return where the cluster may have so many machines until then.

    Raises:
        InvalidInput: it may not, or the end is not ahead.
    """
    limit = int(document.get("max_workers", 0))
    if spec.most > limit:
        field = "max" if spec.count is None else "count"
        fix = f"Give {limit} or less, or raise max_workers in cluster.yaml and run `ray up` again."
        raise InvalidInput(f"{spec.most} are more machines than the cluster may have: {limit}.", field=field, fix=fix)
    if spec.ends_at is not None and spec.ends_at <= now:
        raise InvalidInput(f"{spec.ends_at:%Y-%m-%d %H:%M:%S %Z} is over.", field="ends_at", fix="Give a later time.")


def changed(spec: GroupSpec, change: GroupChange) -> GroupSpec:
    """Return what a change makes of a group: sizes of the other kind make it fixed, or one that follows its tasks.

    Raises:
        InvalidInput: the result is no group.
    """
    given = change.model_dump(exclude_none=True)
    if "count" in given:
        given |= {"min": None, "max": None}
    elif given.keys() & {"min", "max"} and spec.count is not None:
        given |= {"count": None, "max": given.get("max", spec.count)}
    try:
        return GroupSpec.model_validate(spec.model_dump() | given)
    except ValidationError as error:
        raise refusal_of(error) from None


def with_records(document: Mapping[str, Any], records: Sequence[GroupRecord]) -> dict[str, Any]:
    """Return the cluster file with the node types of these groups; those of one that is drained may have no machine.

    One that has ended keeps its node types: the autoscaler scales nothing any more when a type vanishes while it still
    knows a machine of it.
    """
    made = copy.deepcopy(dict(document))
    template = _template(made)
    limits = made.setdefault("metadata", {}).setdefault(OPTIONS, {}).setdefault(GROUPS, {})
    for record in records:
        spec = record.spec
        most = 0 if record.drained_at is not None else spec.most
        if record.ended_at is None:
            limits[spec.name] = {"min": min(spec.least, most), "max": most} | ({"mpi": True} if spec.mpi else {})
            if spec.ends_at is not None:
                limits[spec.name]["ends_at"] = spec.ends_at.isoformat()
        for machine_type in spec.machine_types:
            for market in markets_of(spec.market):
                # It is a label, too, which may have 63 characters.
                name = f"{spec.name[:24]}-{record.id}-{machine_type}-{market}"
                made["available_node_types"][name] = _node_type(template, record, machine_type, market, most)
    return made


def _template(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the node type that those of made groups are like: that of the group `local`, or else the head's."""
    types: Mapping[str, Mapping[str, Any]] = document["available_node_types"]
    for node_type in types.values():
        if (node_type.get("labels") or {}).get(GROUP_LABEL) == LOCAL_GROUP:
            return node_type
    return types[document["head_node_type"]]


def _node_type(
    template: Mapping[str, Any], record: GroupRecord, machine_type: str, market: Market, most: int
) -> dict[str, Any]:
    spec = record.spec
    _, cloud = cloud_of(spec.name, template["node_config"])
    config = cloud.bought(copy.deepcopy(dict(template["node_config"])), machine_type, market)
    if spec.mpi:
        config[TOGETHER] = True
    if spec.disk is not None:
        config = cloud.with_disk(config, -(-spec.disk // GIB))
    made: dict[str, Any] = {"min_workers": 0, "max_workers": most, "resources": {}, "node_config": config}
    if record.ended_at is None:
        made["labels"] = {GROUP_LABEL: spec.name}
    return made | ({} if spec.idle is None else {"idle_timeout_s": spec.idle})
