"""The dispatcher: a named Ray actor on the head that brings queued tasks to Simulator actors.

It holds no truth. All it knows it reads from the durable store and from the actors that live, so it may be killed at
any moment; Ray starts it again and it goes on where it stood. What it decides stands in `tasks.desk`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import ray

from cluster.cluster_file import cluster_of, machine_environment
from cluster.head import head_address
from cluster.machine_types import catalogue_file
from cluster.members import list_members
from cluster.quotes import Quotes
from cluster.server_mark import server_name
from simulators.outcome import Outcome
from simulators.work import News, Report, Stall
from simyard.cluster import CloudState
from simyard.errors import SimyardError
from simyard.group import MachineGroup
from simyard.status import Status
from storage.objects import ObjectStore, is_on_this_machine, open_store
from storage.settings import load_settings
from storage.uploads import sweep_uploads
from tasks.bell import Bell
from tasks.desk import Clock, Desk
from tasks.fleet import Fleet
from tasks.holders import Verdict
from tasks.inventory import Inventory, Surroundings
from tasks.listening import Listener
from tasks.price_list import PriceList
from tasks.ray_holders import RayHolders
from tasks.reporting import DISPATCHER, NAMESPACE
from tasks.store import Contested, Store
from tasks.store import open_store as open_task_store

log = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""The longest pause between two turns, so that a lost wake-up costs no more than this."""
_SWEEP_EVERY = 3600.0
_FLEET_EVERY = 2.0
_ONLY_TERM = 1
_UPLOADS_KEPT = timedelta(days=7)


class DispatcherActor:
    """Gives the desk its turns, and lets others call it."""

    def __init__(self) -> None:
        settings = load_settings()
        self._store: Store = open_task_store(settings.task_store)
        self._lease_seconds = settings.lease_seconds
        self._objects: ObjectStore = open_store(settings.storage_uri)
        self._bell = Bell(settings.dispatcher_bell)
        file = cluster_of(settings)
        types = catalogue_file(settings.data_dir)
        self._price_list = PriceList(file, types)
        self._desk = Desk(
            self._store,
            self._objects,
            RayHolders(woken=self._bell.ring),
            Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic),
            lease=settings.lease_seconds,
            warm=settings.warm_seconds,
            storage=settings.storage_uri,
            prices=lambda: self._price_list.prices,
        )
        self._fleet: Fleet | None = None
        self._inventory: Inventory | None = None
        self._led_at = float("-inf")
        if file is not None:
            objects = None if is_on_this_machine(settings.storage_uri) else self._objects
            self._fleet = Fleet(file, self._store, head_address(), machine_environment(os.environ), objects=objects)
            around = Surroundings(
                document=file.live,
                members=lambda: list_members(ray.get_runtime_context().gcs_address),
                server=server_name(),
                types=types,
            )
            self._inventory = Inventory(self._store, around, self._may_end)
            self._inventory.start()
            Quotes(file.live, types).start()
        self._fleet_at = -_FLEET_EVERY
        self._swept_at = time.monotonic()
        self._beat = settings.dispatcher_beat
        self._turned_at = time.monotonic()
        threading.Thread(target=self._run, name="turns", daemon=True).start()
        if isinstance(self._store, Contested):
            # Other servers' faces cannot ring this dispatcher's bell.
            Listener(self._store, self._bell.ring)

    @ray.method(concurrency_group="control")
    def groups(self) -> tuple[MachineGroup, ...]:
        """Return the groups with their machines and what is free on them."""
        found = self._desk.groups()
        return found if self._fleet is None else self._fleet.groups(found)

    @ray.method(concurrency_group="control")
    def cloud(self) -> CloudState | None:
        """Return what is known of the cluster's cloud."""
        return None if self._inventory is None else self._inventory.state

    @ray.method(concurrency_group="reports")
    def renew(self, task: str, attempt: int) -> Verdict:
        """Renew an attempt's lease."""
        return self._desk.renew(task, attempt)

    @ray.method(concurrency_group="reports")
    def report(self, task: str, attempt: int, reports: Sequence[Report]) -> Verdict:
        """Take what an attempt reports, in its order."""
        return self._take(task, attempt, reports)

    def _take(self, task: str, attempt: int, reports: Sequence[Report]) -> Verdict:
        verdict = self._desk.report(task, attempt, reports)
        if isinstance(reports[-1].what, Outcome):
            self._bell.ring()
        return verdict

    # What replicas and actors of the release before call, each report by itself.

    @ray.method(concurrency_group="control")
    def wake(self) -> None:
        """Look at the store now."""
        self._bell.ring()

    @ray.method(concurrency_group="control")
    def health(self) -> float:
        """Return the seconds since the last turn."""
        return time.monotonic() - self._turned_at

    @ray.method(concurrency_group="reports")
    def moved(self, task: str, attempt: int, status: Status) -> Verdict:
        """Take a report that an attempt is running or finalizing."""
        return self._take(task, attempt, (Report(status),))

    @ray.method(concurrency_group="reports")
    def ended(self, task: str, attempt: int, outcome: Outcome) -> Verdict:
        """Take a report that an attempt has ended."""
        return self._take(task, attempt, (Report(outcome),))

    @ray.method(concurrency_group="reports")
    def stalled(self, task: str, attempt: int, number: int) -> Verdict:
        """Take a report that an attempt gives no output."""
        return self._take(task, attempt, (Report(Stall(number)),))

    @ray.method(concurrency_group="reports")
    def told(self, task: str, attempt: int, news: News) -> Verdict:
        """Take what an attempt tells of its snapshots."""
        return self._take(task, attempt, (Report(news),))

    def _run(self) -> None:
        recovered: int | None = None
        while True:
            try:
                asked_at = time.monotonic()
                term = self._term()
                # Also where another one led only while this one stood still.
                if term not in {None, recovered}:
                    self._desk.recover()
                recovered = term
                if term is not None:
                    self._led_at = asked_at
                    self._turn()
            except Exception:  # the loop must outlive any failure of the store, of Ray or of our own
                log.exception("a turn of the dispatcher failed; the next one tries again")
                time.sleep(TURN_SECONDS)
            self._turned_at = time.monotonic()
            with suppress(OSError):  # on a full disk it is not seen to live, which costs a restart
                self._beat.touch()
            self._bell.wait(TURN_SECONDS)

    def _term(self) -> int | None:
        """Return the term in which this dispatcher may act, or None; a store for one server alone has a single term."""
        store = self._store
        return store.lead(server_name(), self._lease_seconds) if isinstance(store, Contested) else _ONLY_TERM

    def _may_end(self) -> bool:
        """Say, in whatever thread, whether this dispatcher led a moment ago and no other one can have taken over."""
        return time.monotonic() - self._led_at < self._lease_seconds

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._swept_at >= _SWEEP_EVERY:
            self._swept_at = now
            threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        is_due = self._fleet is not None and now - self._fleet_at >= _FLEET_EVERY
        if is_due:
            self._price_list.look()
        self._desk.turn()
        if self._fleet is not None and is_due:
            self._fleet_at = now
            self._fleet.look(self._desk.demands)

    def _sweep(self) -> None:
        """Remove uploads that nobody has gone on with for a week."""
        try:
            sweep_uploads(self._objects, datetime.now(UTC) - _UPLOADS_KEPT)
        except SimyardError as error:
            log.warning("old uploads could not be removed: %s", error)


_Dispatcher: Any = ray.remote(  # type: ignore[call-overload]  # Ray's type does not know concurrency groups
    concurrency_groups={"control": 4, "reports": 8}
)(DispatcherActor)


def start_dispatcher() -> Any:
    """Return the dispatcher of this cluster, started on the head where it does not run yet."""
    return _Dispatcher.options(
        name=DISPATCHER,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
    ).remote()
