"""Which machines of a cluster are paid for and of no use, decided from plain data: no clock, no cloud and no Ray.

A machine is ended only where all of this holds: it carries this cluster's name and is a worker; it has had the time to
boot; and in several looks in a row, over a grace, the cloud told of it and Ray did not know it. A look in which the
cloud or Ray does not answer, or the cloud tells of nothing at all, says nothing about any machine; after a pause
without a good look, and whenever Ray's head is another one, the grace begins anew. So a dispatcher that has just
started ends nothing before the grace has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cluster.provider import Instance, Kind


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How patient one is. With looks every 15 s no orphan lives for 10 minutes, and a slow boot is none."""

    join: timedelta = timedelta(minutes=9)
    """How long a machine may take from its launch until Ray knows it."""
    grace: timedelta = timedelta(minutes=5)
    """How long Ray must not have known it: more than `gap` and the time to join a head that was started anew."""
    looks: int = 3
    """How many looks that time must have had at least."""
    gap: float = 60.0
    """The longest pause in seconds between two looks of one row."""
    pauses: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0)
    """Seconds between two tries to end a machine, the last one again and again."""


@dataclass(frozen=True, kw_only=True)
class Members:
    """The machines that Ray knows to be alive."""

    head: str
    """Ray's id of its head, another one after each start."""
    instances: frozenset[str]
    """By the ids of their cloud."""
    addresses: frozenset[str]
    """By their addresses, for those which could not learn their id."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What this cluster is meant to have."""

    cluster: str
    """Its name, which all of its machines carry."""
    generation: str
    """The server that launches its machines now."""
    node_types: frozenset[str]
    """Of the cluster file."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one moment; the cloud is asked before Ray, or a machine that joins between seems unknown."""

    now: datetime
    clock: float
    """Seconds of a clock that nobody sets."""
    listed: tuple[Instance, ...] | None
    """None: the cloud did not answer."""
    members: Members | None
    """None: Ray did not answer."""


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A machine that Ray does not know, as one row of looks has seen it."""

    since: float
    looks: int
    tries: int = 0
    """How often it was asked to end."""
    again_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What is remembered of earlier looks; an empty one ends nothing."""

    head: str = ""
    looked_at: float = float("-inf")
    alone: Mapping[str, Alone] = field(default_factory=dict)
    joined: frozenset[str] = frozenset()
    """Machines that Ray has known."""


@dataclass(frozen=True, kw_only=True)
class End:
    """A machine to be ended, and why."""

    instance: Instance
    reason: str
    tries: int
    """1: it is asked for the first time."""


def reconcile(memory: Memory, look: Look, asked: Asked, rules: Rules) -> tuple[Memory, tuple[End, ...]]:
    """Return what is to be remembered after a look, and which machines are to be ended now."""
    if not look.listed or look.members is None:
        return memory, ()
    in_a_row = memory.head == look.members.head and look.clock - memory.looked_at <= rules.gap
    before = memory.alone if in_a_row else {}
    known = frozenset(one.id for one in look.listed if _is_known(one, look.members))
    has_rival = sum(one.kind is Kind.HEAD and not one.is_ending for one in look.listed) > 1
    alone: dict[str, Alone] = {}
    ends: list[End] = []
    for one in look.listed:
        if one.id in known or not _is_ours(one, asked, has_rival=has_rival):
            continue
        seen = before.get(one.id)
        since, looks = (look.clock, 1) if seen is None else (seen.since, seen.looks + 1)
        tries, again_at = (0, 0.0) if seen is None else (seen.tries, seen.again_at)
        watched = look.clock - since
        # By its launch where the two clocks agree; what this one has watched counts where they do not.
        age = max((look.now - one.launched_at).total_seconds(), watched)
        is_orphan = watched >= rules.grace.total_seconds() and looks >= rules.looks
        if is_orphan and age >= rules.join.total_seconds() and look.clock >= again_at:
            again_at = look.clock + rules.pauses[min(tries, len(rules.pauses) - 1)]
            tries += 1
            ends.append(End(instance=one, reason=_reason(one, memory, asked, rules), tries=tries))
        alone[one.id] = Alone(since=since, looks=looks, tries=tries, again_at=again_at)
    listed = {one.id for one in look.listed}
    joined = (memory.joined & listed) | known
    return Memory(head=look.members.head, looked_at=look.clock, alone=alone, joined=joined), tuple(ends)


def _is_known(one: Instance, members: Members) -> bool:
    return one.id in members.instances or (bool(one.address) and one.address in members.addresses)


def _is_ours(one: Instance, asked: Asked, *, has_rival: bool) -> bool:
    """Say whether it is ours to end; while two heads bear the cluster's name, another one's machines are not."""
    if one.kind is not Kind.WORKER or one.cluster != asked.cluster or (one.is_ending and not one.is_left_over):
        return False
    return not has_rival or one.generation == asked.generation


def _reason(one: Instance, memory: Memory, asked: Asked, rules: Rules) -> str:
    if one.is_left_over:
        return one.why_ended
    if one.generation not in (None, asked.generation):
        return "an earlier server launched it, and it belongs to nobody now"
    if one.node_type not in asked.node_types:
        return "the cluster file has no such node type any more"
    if one.id in memory.joined:
        return f"Ray has not known it for {rules.grace / timedelta(minutes=1):g} min"
    return f"it has not joined Ray within {rules.join / timedelta(minutes=1):g} min of its launch"
