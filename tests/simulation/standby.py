"""Two servers over one store: which of their dispatchers leads, as the store sees it, and servers that go away."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tasks.desk import RETURN_SECONDS
from tasks.errors import Deposed
from tasks.placement import Host
from tasks.stimulus import Adopt, Dispatch, Expire, Forgive, Lost, Reused, Settled, Stimulus, Undelivered, Wait
from tests.simulation.world import BEGIN, World

if TYPE_CHECKING:
    from tests.simulation.actors import Cluster
    from tests.simulation.promises import Promises

DECISIONS = (Adopt, Dispatch, Expire, Forgive, Lost, Reused, Settled, Undelivered, Wait)
"""What only the dispatcher that leads may say."""


class Leadership:
    """The twin of the row in which a shared store keeps who leads; the wall clock of the world is the database's."""

    def __init__(self, world: World, promises: Promises) -> None:
        self.world, self.books = world, Terms(world, promises)
        self.epoch = 0
        self._holder: str | None = None
        self._until = BEGIN

    def lead(self, server: str, seconds: float, epoch: int) -> int | None:
        """Return the number of the term in which a server leads now; None where another one does."""
        now = self.world.now()
        if not self.is_free(server, now):
            return None
        if epoch != self.epoch or not epoch:
            self.epoch += 1
        self._holder, self._until = server, now + timedelta(seconds=seconds)
        self.books.led(server, self.epoch, self._until)
        return self.epoch

    def is_free(self, server: str, now: datetime) -> bool:
        """Say whether a server may take the lead, or go on with it."""
        return self._holder in {None, server} or self._until < now


class Lead:
    """The store's side of one process of a dispatcher: what the process decides is taken only while it leads."""

    def __init__(self, row: Leadership, server: str) -> None:
        self.row, self.server = row, server
        self.epoch: int | None = None

    @property
    def is_mine(self) -> bool:
        """Say whether no other process has taken over since this one was last told that it leads."""
        return self.epoch == self.row.epoch

    def take(self, seconds: float) -> int | None:
        """Take the lead or go on with it, and return the number of its term; None where another one leads."""
        term = self.row.lead(self.server, seconds, self.epoch or 0)
        self.epoch = self.epoch if term is None else term
        return term

    def check(self) -> None:
        """Let only a dispatcher that leads, or has never led, decide.

        Raises:
            Deposed: another one has taken over.
        """
        if self.epoch is not None and not self.is_mine:
            raise Deposed


class Terms:
    """The books of who leads, and the promises about it."""

    def __init__(self, world: World, promises: Promises) -> None:
        self.world, self.promises = world, promises
        self._server = ""
        self._term = 0
        self._until = BEGIN
        self._since = 0.0

    def led(self, server: str, term: int, until: datetime) -> None:
        """Check that nobody is told that it leads while another one may believe so."""
        now = self.world.now()
        if server != self._server and now <= self._until:
            self.promises.fail(f"{server} leads, and {self._server} was told that it does until {self._until}")
        if term != self._term:
            self.world.note("server", server, "leads, in term", term)
            self._since = self.world.at
        self._server, self._term, self._until = server, term, until

    def decided(self, stimulus: Stimulus, lead: Lead) -> None:
        """Check that what a dispatcher decides is stored only in its own term."""
        if isinstance(stimulus, DECISIONS) and (lead.server, lead.epoch) != (self._server, self._term):
            self.promises.fail(f"{lead.server} decided {stimulus} in term {lead.epoch}, and this is {self._term}")

    def lost(self, key: tuple[str, int]) -> None:
        """Check that what runs at the other server is given the time in which it may still come back."""
        led = self.world.at - self._since
        if led < RETURN_SECONDS:
            self.promises.fail(f"attempt {key} goes on at the other server, and was taken as lost {led:.1f} s after it")


class Standby:
    """What becomes of two servers in one world; drawn from a source of its own.

    `start` starts the dispatcher of a server anew.
    """

    def __init__(self, world: World, clusters: Sequence[Cluster], start: Callable[[Cluster], None]) -> None:
        self.world, self._clusters, self._start = world, clusters, start
        self.random = random.Random(f"{world.seed} standby")
        self._stopped = False
        for act in (self._pause, self._leave):
            if every := self.random.choice([0.0, 80.0, 250.0]):
                self._later(every, act)
        self._ends = self.random.random() < 0.3

    def stop(self) -> None:
        """Let no server go away any more, and in some worlds let one never come back."""
        self._stopped = True
        if self._ends:
            self._goes(self.random.choice(self._clusters), float("inf"))

    def comes_back(self, cluster: Cluster) -> bool:
        """Say whether the dispatcher of a server that died may start again; one that is away does later."""
        if cluster.away_until <= self.world.at:
            return True
        if cluster.away_until < float("inf"):
            self.world.after(cluster.away_until - self.world.at, self._start, cluster)
        return False

    def _later(self, every: float, act: Callable[[], None]) -> None:
        self.world.after(self.random.expovariate(1.0 / every), self._again, every, act)

    def _again(self, every: float, act: Callable[[], None]) -> None:
        if not self._stopped:
            act()
            self._later(every, act)

    def _pause(self) -> None:
        """Let a dispatcher stand still for about as long as its lead, or for longer; and then the other one too."""
        first, then = self.random.sample(self._clusters, 2)
        self._freeze(first)
        if self.random.random() < 0.6:
            self.world.after(self.random.uniform(30.0, 60.0), self._freeze, then)

    def _freeze(self, cluster: Cluster) -> None:
        if not self._stopped and cluster.process is not None and cluster.process.alive:
            cluster.process.freeze(self.random.uniform(25.0, 100.0))

    def _leave(self) -> None:
        self._goes(self.random.choice(self._clusters), self.world.at + self.random.uniform(20.0, 400.0))

    def _goes(self, cluster: Cluster, until: float) -> None:
        """Let a server die with its machines."""
        self.world.note("server", cluster.name, f"is away until {until:.1f}")
        cluster.away_until = max(cluster.away_until, until)
        if cluster.process is not None:
            cluster.process.die("with its server")
        for machine in list(cluster.machines.values()):
            cluster.kill_machine(machine, silent=True)


def second(hosts: Sequence[Host]) -> list[Host]:
    """Return the machines of a second server, alike those of the first."""
    return [replace(host, id=f"second-{host.id}", name=f"second-{host.name}") for host in hosts]
