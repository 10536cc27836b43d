"""What the cloud's machines have cost, out of the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime

from cluster.cost import cost_of, hours_of
from cluster.errors import ClusterFileBroken
from cluster.ledger import Rental
from cluster.provider import has_provider
from serve.auth import User
from serve.context import Context, HasContext
from serve.machines import GroupMemory, memory_of
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simyard.errors import InvalidInput, NotFound
from simyard.rental import GroupCost, RentedMachine, RentedMachines
from tasks.ledger import RentalQuery

router = APIRouter(tags=["machines"])

_MONEY = 6
"""Digits behind the dot of dollars and hours."""


@router.get("/v1/machines", summary="List a cloud's machines", response_model=RentedMachines, responses=PROBLEMS)
async def list_rented(
    context: HasContext,
    _user: User,
    ended: Annotated[bool, Query(description="Those that have ended, instead of those that are there")] = False,
    group: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """Return the machines that the cloud has for this server, or had: with uptime, price, cost so far, why they ended.

    What a machine costs is an estimate: its hours times the price that the catalogue of machine types knew.
    """

    def look() -> Response:
        found = context.store.rentals(RentalQuery(group=group, ended=ended, limit=limit + 1))
        now = context.clock()
        machines = tuple(_machine(one, now) for one in found[:limit])
        return json_answer(
            RentedMachines(machines=machines, more=len(found) > limit, has_cloud=bool(found) or _has_cloud(context))
        )

    return await to_thread.run_sync(look)


@router.get("/v1/groups/{group}/cost", summary="Sum up a group's cost", response_model=GroupCost, responses=PROBLEMS)
async def group_cost(
    context: HasContext,
    _user: User,
    groups: Annotated[GroupMemory, Depends(memory_of)],
    group: Annotated[str, Path(description="Its name.", examples=["local"])],
    since: Annotated[AwareDatetime | None, Query(description="Only what came after that is counted")] = None,
) -> Response:
    """Return what the machines of a group have cost together, those among them that have ended.

    It is an estimate: hours times the prices that the catalogue of machine types knew.
    """
    now = context.clock()
    if since is not None and since > now:
        raise InvalidInput("lies in the future.", field="since", fix="Give a moment that has passed, or leave it out.")
    known = await groups.recent()

    def look() -> Response:
        return json_answer(_cost(context, group, since, now, None if known is None else [one.name for one in known]))

    return await to_thread.run_sync(look)


def costs_since(context: Context, since: datetime) -> dict[str, float]:
    """Return what each group's machines have cost since a moment, in US dollars, where prices are known."""
    rentals: dict[str, list[Rental]] = {}
    for one in context.store.rentals(RentalQuery(since=since)):
        rentals.setdefault(one.group, []).append(one)
    costs = {group: cost_of(found, context.clock(), since).usd for group, found in rentals.items()}
    return {group: round(usd, _MONEY) for group, usd in costs.items() if usd is not None}


def _cost(context: Context, group: str, since: datetime | None, now: datetime, names: list[str] | None) -> GroupCost:
    found = context.store.rentals(RentalQuery(group=group, since=since))
    has_ledger = bool(found) or bool(context.store.rentals(RentalQuery(group=group, limit=1)))
    if not has_ledger and names is not None and group not in names:
        fix = f"Known: {', '.join(names) or 'none'}."
        raise NotFound(f"There is no machine group {group[:100]!r}.", field="group", fix=fix)
    has_cloud = has_ledger or _has_cloud(context)
    cost = cost_of(found, now, since)
    return GroupCost(
        group=group,
        since=since,
        machines=cost.machines,
        hours=round(cost.hours, _MONEY),
        cost=None if cost.usd is None or not has_cloud else round(cost.usd, _MONEY),
        unpriced=cost.unpriced,
        has_cloud=has_cloud,
    )


def _has_cloud(context: Context) -> bool:
    """Say whether the machines are a cloud's that is asked for them."""
    try:
        return context.cluster is not None and has_provider(context.cluster.read())
    except ClusterFileBroken:
        return False


def _machine(one: Rental, now: datetime) -> RentedMachine:
    hours = hours_of(one, now)
    return RentedMachine(
        id=one.id,
        group=one.group,
        machine_type=one.machine_type,
        market=one.market,
        zone=one.zone,
        launched_at=one.launched_at,
        last_seen_at=one.last_seen_at,
        ended_at=one.ended_at,
        why_ended=one.why_ended or None,
        hours=round(hours, _MONEY),
        price_per_hour=one.price_per_hour,
        cost=None if one.price_per_hour is None else round(hours * one.price_per_hour, _MONEY),
    )
