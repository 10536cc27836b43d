"""Which tasks wait for which: what drafts name made into ids, in an order without cycles, and what an end means."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from simyard.dependency import Dependency, DependencyEnd, InputFrom
from simyard.errors import InvalidInput
from simyard.status import Status
from tasks.lifecycle import Step, step
from tasks.record import Draft
from tasks.stimulus import Settled

_SHOWN = 5


class Tie(StrEnum):
    """How a task stands to one that it waits for."""

    OPEN = "open"
    """The other one has not ended, or this one has not been told."""
    MET = "met"
    """The other one has ended as it had to, or a user let this one go on without it."""
    FAILED = "failed"
    """The other one has ended in another way."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One task that another one waits for."""

    parent: str
    needs_success: bool
    tie: Tie = Tie.OPEN


def tie_of(status: Status, *, needs_success: bool) -> Tie:
    """Return what a task's status means for one that waits for it."""
    if not status.is_end:
        return Tie.OPEN
    return Tie.FAILED if needs_success and status is not Status.SUCCEEDED else Tie.MET


def in_order(drafts: Sequence[Draft]) -> tuple[list[int], dict[int, InvalidInput]]:
    """Return the places of drafts so that each comes after those it names by their keys, and why some never can.

    Where nothing is named, the order is that of the drafts. Keys that no draft has are somebody else's to find.
    """
    named = [draft.spec.dependencies for draft in drafts]
    if not any(named):
        return list(range(len(drafts))), {}
    first: dict[tuple[str, str], int] = {}
    for place, draft in enumerate(drafts):
        if draft.key is not None:
            first.setdefault((draft.user, draft.key), place)
    parents = [
        {first[draft.user, one.key] for one in found if one.key is not None and (draft.user, one.key) in first}
        for draft, found in zip(drafts, named, strict=True)
    ]
    children: defaultdict[int, list[int]] = defaultdict(list)
    for place, found in enumerate(parents):
        for parent in found:
            children[parent].append(place)
    left = [len(found) for found in parents]
    ready = [place for place, count in enumerate(left) if not count]
    order: list[int] = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for child in children[place]:
            left[child] -= 1
            if not left[child]:
                heapq.heappush(ready, child)
    stuck = {place for place, count in enumerate(left) if count}
    return order, {place: _circle(place, parents, drafts, stuck) for place in sorted(stuck)}


def _circle(start: int, parents: Sequence[set[int]], drafts: Sequence[Draft], stuck: set[int]) -> InvalidInput:
    """Return why a draft can never start: it waits for itself, or for others that do."""
    path = [start]
    while True:
        place = min(parents[path[-1]] & stuck)
        if place in path:
            break
        path.append(place)
    circle = path[path.index(place) :]
    keys = [str(drafts[one].key) for one in (*circle, place)]
    shown = " → ".join(keys if len(keys) <= 2 * _SHOWN else [*keys[:_SHOWN], "…", *keys[-_SHOWN:]])
    who = "It waits for itself" if start in circle else "It waits for tasks that wait for themselves"
    # A draft's own field names who it waits for; that of `inputs` follows from what it takes.
    field = "after" if drafts[start].spec.after else "inputs"
    return InvalidInput(f"{who}: {shown}.", field=field, fix="Leave one of these dependencies out.")


def resolved(draft: Draft, find: Callable[[Dependency], tuple[str, str] | None]) -> Draft:
    """Return the draft with ids in the place of keys; `find` gives id and user of the task that is named.

    Raises:
        InvalidInput: a task is not there, or is another user's, which is the same.
    """
    spec = draft.spec
    ids: dict[tuple[str | None, str | None], str] = {}
    after: dict[str, Dependency] = {}
    for one in spec.dependencies:
        found = find(one)
        if found is None or found[1] != draft.user:
            raise _unknown(draft, one)
        ids[one.named] = found[0]
        known = after.get(found[0])
        if known is None or known.end is DependencyEnd.ANY:
            after[found[0]] = Dependency.model_construct(task=found[0], end=one.end)
    if not after:
        return draft
    inputs = tuple(
        one.model_copy(update={"task": ids[one.named], "key": None}) if isinstance(one, InputFrom) else one
        for one in spec.inputs
    )
    return draft._replace(spec=spec.model_copy(update={"after": tuple(after.values()), "inputs": inputs}))


def unknown_task(draft: Draft, known: Callable[[Sequence[Dependency]], Container[object]]) -> InvalidInput | None:
    """Return why a draft is refused that names a task by an id which its user has not; None where all are there.

    `known` gives those of some references that name a task. A task with a key may still come in the same request.
    """
    asked = [one for one in draft.spec.dependencies if one.task is not None]
    found = known(asked) if asked else ()
    return next((_unknown(draft, one) for one in asked if one.named not in found), None)


def _unknown(draft: Draft, one: Dependency) -> InvalidInput:
    after = [known.named for known in draft.spec.after]
    if one.named in after:
        field = f"after.{after.index(one.named)}"
    else:
        inputs = draft.spec.inputs
        field = f"inputs.{next(i for i, known in enumerate(inputs) if getattr(known, 'named', None) == one.named)}"
    if one.task is not None:
        fix = "Take the id of a task of yours: GET /v1/tasks lists them."
        return InvalidInput(f"There is no task {one.task!r}.", field=f"{field}.task", fix=fix)
    return InvalidInput(
        f"There is no task with the idempotency key {one.key!r}, neither in this request nor from an earlier one.",
        field=f"{field}.key",
        fix="Send that task with this key in the same request or before, and mend it where it was refused.",
    )


def edges_of(draft: Draft, status_of: Callable[[str], Status]) -> tuple[Edge, ...]:
    """Return what a resolved draft waits for, as it stands now."""
    edges = []
    for one in draft.spec.after:
        assert one.task is not None
        needs_success = one.end is DependencyEnd.SUCCESS
        tie = tie_of(status_of(one.task), needs_success=needs_success)
        edges.append(Edge(parent=one.task, needs_success=needs_success, tie=tie))
    return tuple(edges)


def begun(first: Step, edges: Sequence[Edge], status_of: Callable[[str], Status], now: datetime) -> Step:
    """Return the first step of a task that waits for others: waiting, queued, or ended since one has failed."""
    unmet = [edge for edge in edges if edge.tie is not Tie.MET]
    if not unmet:
        return first
    task = first.record.task.model_copy(update={"status": Status.WAITING})
    record = replace(first.record, task=task)
    events = tuple(replace(event, status=Status.WAITING) for event in first.events)
    failed = next((edge for edge in unmet if edge.tie is Tie.FAILED), None)
    if failed is None:
        return Step(record, events)
    told = Settled(task=failed.parent, status=status_of(failed.parent), is_met=False)
    after = step(record, told, now)
    return Step(after.record, (*events, *after.events))
