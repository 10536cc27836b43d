"""Looks at the cloud's machines: what is ended, and what is entered into the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterFileBroken, ProviderFailed, RaySilent
from cluster.machine_types import find_type, list_types
from cluster.memory_provider import MemoryProvider
from cluster.provider import Provider
from cluster.reconciler import Members
from simyard.errors import SimyardError
from tasks.inventory import LOOK_SECONDS, Inventory, Surroundings
from tasks.ledger import RentalQuery
from tasks.memory import MemoryStore
from tests.unit.cluster.test_reconciler import EVERYBODY, HEAD, NOBODY, NOW, WORKER

DOCUMENT: dict[str, Any] = {
    "cluster_name": "ours",
    "provider": {"type": "aws", "region": "eu-central-1"},
    "available_node_types": {"head": {}, "local": {}},
}


class Deaf(MemoryProvider):
    """Ends machines, and does not say so."""

    def end(self, ids: Any) -> None:
        super().end(ids)
        raise ProviderFailed("no answer")


class Refusing(MemoryProvider):
    """Refuses the first time to end anything."""

    refused = False

    def end(self, ids: Any) -> None:
        if self.refused:
            super().end(ids)
        self.refused = True
        raise ProviderFailed("not now")


class Place:
    """An inventory with all that it asks, and a clock that moves from look to look."""

    def __init__(self, cloud: MemoryProvider | None = None) -> None:
        self.cloud = MemoryProvider(HEAD, WORKER) if cloud is None else cloud
        self.store = MemoryStore()
        self.clock = 0.0
        self.members: Members | None = NOBODY
        self.document: dict[str, Any] | None = DOCUMENT
        self.leads = True
        self.asked = 0
        self.inventory = self.start()

    def start(self) -> Inventory:
        """Return one that remembers nothing."""
        around = Surroundings(
            document=self._document,
            members=self._members,
            server="s1",
            types=Path("/nowhere"),
            provider=self._provider,
            now=self._now,
            clock=lambda: self.clock,
        )
        return Inventory(self.store, around, lambda: self.leads)

    def _now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock)

    def _document(self) -> Mapping[str, Any]:
        if self.document is None:
            raise ClusterFileBroken
        return self.document

    def _members(self) -> Members:
        if self.members is None:
            raise RaySilent
        return self.members

    def _provider(self, document: Mapping[str, Any]) -> Provider | None:
        self.asked += 1
        return self.cloud if document["provider"]["type"] == "aws" else None

    def until(self, seconds: float) -> list[str]:
        """Look until then, and return the ids of what was ended."""
        ended = []
        while self.clock <= seconds:
            ended += [end.instance.id for end in self.inventory.look()]
            self.clock += LOOK_SECONDS
        return ended

    def ends(self) -> dict[str, str]:
        return {one.id: one.why_ended for one in self.store.rentals(RentalQuery(ended=True))}


def test_an_orphan_is_ended_and_the_ledger_says_why() -> None:
    place = Place()
    assert place.until(600) == ["i-1"]
    assert place.ends() == {"i-1": "it has not joined Ray within 9 min of its launch"}
    [head] = place.store.rentals(RentalQuery(ended=False))
    assert (head.id, head.price_per_hour) == ("i-head", None)
    assert place.asked == 1


def test_an_end_without_an_answer_is_made_again_only_where_the_machine_is_still_there() -> None:
    assert Place(Deaf(HEAD, WORKER)).until(700) == ["i-1"]
    place = Place(Refusing(HEAD, WORKER))
    assert place.until(700) == ["i-1", "i-1"]
    assert place.ends() == {"i-1": "it has not joined Ray within 9 min of its launch"}


def test_nothing_is_ended_while_the_cloud_or_ray_is_silent_and_the_ledger_stays() -> None:
    place = Place()
    place.until(100)
    place.cloud.fails = True
    assert place.until(2000) == []
    place.cloud.fails, place.members = False, None
    assert place.until(4000) == []
    assert place.ends() == {}
    place.members = EVERYBODY
    assert place.until(6000) == []


def test_one_that_has_just_started_knows_the_ledger_and_ends_nothing_before_the_grace() -> None:
    place = Place()
    place.until(500)
    place.inventory = place.start()
    assert place.until(790) == []
    assert len(place.store.rentals(RentalQuery())) == 2
    assert place.until(830) == ["i-1"]


def test_one_that_does_not_lead_neither_looks_nor_remembers() -> None:
    place = Place()
    place.until(500)
    place.leads = False
    place.cloud.end(["i-1"])
    place.until(560)
    assert place.ends() == {}
    place.cloud.launch(WORKER)
    place.leads = True
    assert place.until(860) == []
    assert place.until(900) == ["i-1"]


def test_a_cluster_file_that_cannot_be_read_or_has_no_cloud_ends_nothing() -> None:
    place = Place()
    place.until(530)
    place.document = None
    with pytest.raises(SimyardError):
        place.until(540)
    place.document = DOCUMENT | {"provider": {"type": "local"}}
    assert place.until(2000) == []
    place.document = DOCUMENT
    start = place.clock
    assert place.until(start + 290) == []
    assert place.until(start + 300) == ["i-1"]


def test_a_store_that_cannot_be_written_loses_no_entry() -> None:
    place = Place()
    place.until(0)
    place.cloud.launch(replace(WORKER, is_ending=True))
    real, place.store = place.store, MemoryStore()
    place.store.close()
    place.inventory._store = place.store
    with pytest.raises(SimyardError):
        place.until(30)
    place.store = place.inventory._store = real
    place.until(60)
    assert place.ends() == {"i-1": "it was ended"}


def test_prices_are_those_of_the_catalogue_in_the_region_of_the_cluster_file() -> None:
    cloud = MemoryProvider(replace(HEAD, machine_type="c7i.4xlarge"))
    place = Place(cloud)
    place.document = DOCUMENT | {"provider": {"type": "aws", "region": "us-east-1"}}
    place.until(0)
    [known] = place.store.rentals(RentalQuery())
    sold = find_type("c7i.4xlarge", list_types()).price("us-east-1")
    assert sold is not None
    assert known.price_per_hour == sold.on_demand
