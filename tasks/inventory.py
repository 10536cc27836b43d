"""Looks every few seconds at which machines a cloud has, ends those that nobody uses, and keeps the ledger.

What is to be ended decides `cluster.reconciler`, from plain data; this carries it out. It has a thread of its own: a
cloud may answer late, and no turn of the dispatcher waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cluster.errors import ProviderFailed, RaySilent
from cluster.ledger import KEPT, Ledger, entered
from cluster.machine_types import list_types, prices_in
from cluster.provider import Instance, Provider, cloud_name, provider_of, region_of
from cluster.reconciler import Asked, End, Look, Members, Memory, Rules, reconcile
from simyard.cluster import CloudState
from simyard.errors import SimyardError
from tasks.ledger import RentalQuery
from tasks.store import Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
_RECENT = timedelta(hours=2)
"""So long a cloud tells of machines that have ended, with some time more."""
_FORGET_EVERY = 3600.0


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an inventory asks."""

    document: Callable[[], Mapping[str, Any]]
    """Gives the cluster file as the autoscaler reads it."""
    members: Callable[[], Members]
    """Gives the machines that Ray knows, or raises RaySilent."""
    server: str
    """The server that launches the machines now."""
    types: Path | None = None
    """The file of what was refreshed of the machine types."""
    provider: Callable[[Mapping[str, Any]], Provider | None] = provider_of
    """Gives the cloud of a cluster file."""
    now: Callable[[], datetime] = _now
    clock: Callable[[], float] = time.monotonic
    rules: Rules = field(default_factory=Rules)


class Inventory:
    """The machines of the cluster, as its cloud and Ray told of them at the last look.

    Args:
        store: has the ledger.
        around: what is asked.
        leads: says whether this dispatcher may act now.
    """

    def __init__(self, store: Store, around: Surroundings, leads: Callable[[], bool] = lambda: True) -> None:
        self._store, self._around, self._leads = store, around, leads
        self._memory = Memory()
        self._ledger: Ledger | None = None
        self._reasons: dict[str, str] = {}
        self._provider: tuple[object, Provider | None] = (None, None)
        self._forgot_at = float("-inf")
        self._closed = threading.Event()
        self.state: CloudState | None = None
        """What is known of the cloud; None before the first look, or where there is none."""

    def start(self) -> None:
        """Look from now on again and again, in a thread, until it is closed."""
        threading.Thread(target=self._run, name="inventory", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.look()
            except SimyardError as error:
                log.warning("the cloud's machines could not be looked at: %s", error)
            except Exception:  # the thread must outlive any failure of a client or of our own
                log.exception("a look at the cloud's machines failed; the next one tries again")

    def look(self) -> tuple[End, ...]:
        """Look once, end what is to be ended, and return that.

        Raises:
            SimyardError: the cluster file or the ledger cannot be read or written at present.
        """
        if not self._leads():
            self._memory, self._ledger = Memory(), None
            return ()
        document = self._around.document()
        provider = self._provider_of(document)
        if provider is None:
            return ()
        listed = self._listed(provider, document)
        # After the cloud, or a machine that joins between seems unknown to Ray.
        members = self._members()
        look = Look(now=self._around.now(), clock=self._around.clock(), listed=listed, members=members)
        asked = Asked(
            cluster=str(document["cluster_name"]),
            generation=self._around.server,
            node_types=frozenset(document.get("available_node_types", {})),
        )
        self._memory, ends = reconcile(self._memory, look, asked, self._around.rules)
        self._end(provider, ends)
        if listed:
            self._enter(listed, region_of(document))
        return ends

    def _provider_of(self, document: Mapping[str, Any]) -> Provider | None:
        told = document.get("cluster_name"), document.get("provider")
        if self._provider[0] != told:
            self._provider = told, self._around.provider(document)
            self._memory = Memory()
        return self._provider[1]

    def _members(self) -> Members | None:
        try:
            return self._around.members()
        except RaySilent as error:
            log.warning("no machine is ended: %s", error)
            return None

    def _listed(self, provider: Provider, document: Mapping[str, Any]) -> tuple[Instance, ...] | None:
        state = CloudState(
            provider=cloud_name(document), region=region_of(document), cluster=str(document["cluster_name"])
        )
        if self.state is not None:
            known = {"answered_at": self.state.answered_at, "machines": self.state.machines}
            state = state.model_copy(update=known)
        try:
            listed = provider.list()
        except ProviderFailed as error:
            log.warning("no machine is ended: %s", error)
            self.state = state.model_copy(update={"error": error.reason, "fix": error.fix})
            return None
        there = sum(not one.is_ending for one in listed)
        self.state = state.model_copy(update={"answered_at": self._around.now(), "machines": there})
        return listed

    def _end(self, provider: Provider, ends: tuple[End, ...]) -> None:
        for end in ends:
            self._reasons[end.instance.id] = end.reason
            log.warning(
                "ending %s (%s, group %s): %s%s",
                end.instance.id,
                end.instance.machine_type,
                end.instance.group,
                end.reason,
                f"; asked for the {end.tries}. time" if end.tries > 1 else "",
            )
        if ends:
            try:
                provider.end(end.instance.id for end in ends)
            except ProviderFailed as error:
                log.warning("it is not sure that they end, and it is tried again: %s", error)

    def _enter(self, listed: tuple[Instance, ...], region: str) -> None:
        now, clock = self._around.now(), self._around.clock()
        if self._ledger is None:
            known = self._store.rentals(RentalQuery(since=now - _RECENT))
            self._ledger = Ledger(rentals={one.id: one for one in known})
        ledger, changed = entered(
            self._ledger, listed, now, prices_in(region, list_types(self._around.types)), self._reasons
        )
        self._store.keep_rentals(changed)
        self._ledger = ledger
        self._reasons = {name: why for name, why in self._reasons.items() if name in ledger.rentals}
        if clock - self._forgot_at >= _FORGET_EVERY:
            self._store.forget_rentals(now - KEPT)
            self._forgot_at = clock
