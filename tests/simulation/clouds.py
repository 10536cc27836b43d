"""A simulated cloud, Ray and autoscaler around the real reconciler, with faults drawn from a seed.

Time moves by hand, five seconds a step; every third step the dispatcher looks. What a machine truly is (a member, on
its way, or nothing that anybody will ever use) only the world knows; the reconciler has lists and Ray's word.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cluster.provider import Instance, Kind
from cluster.reconciler import Asked, End, Look, Members, Memory, Rules, reconcile

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = 5.0
LOOK_STEPS = 3
BOUND = 600.0
"""Seconds in which every orphan is gone once nothing more goes wrong."""
WANTED = 10
_REJOIN = 200.0
"""Within so many seconds all machines join a head that was started anew."""
_CLUSTER, _GENERATION, _OLD, _RIVAL = "sim", "now", "before", "rival"

Decide = Callable[[Memory, Look, Asked, Rules], tuple[Memory, tuple[End, ...]]]


@dataclass
class Box:
    """A machine as it truly is."""

    instance: Instance
    joins_at: float
    """When Ray knows it, or knows it again; never, where that is infinite."""
    is_member: bool = False
    ended: bool = False
    stopped: bool = False
    """It runs no more, and its cloud keeps its disk."""
    told_alive_until: float = -math.inf
    """Ray takes it for alive until then, though it is not."""
    orphan_since: float | None = None

    @property
    def is_orphan(self) -> bool:
        """Whether it is paid for, and nobody will ever use it."""
        return not self.ended and not self.is_member and math.isinf(self.joins_at)


@dataclass
class World:
    """One life of a cluster; `wrong` and `leaked` tell of machines that were ended wrongly, and of those left."""

    seed: int
    decide: Decide = reconcile
    rules: Rules = field(default_factory=Rules)
    keeps_stopped: bool = False
    """Whether its cloud keeps machines that end by themselves, stopped, as Google's does."""
    wrong: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    slowest: float = 0.0
    """Seconds after the last fault until the last orphan was gone."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.rate = self.random.choice([0.01, 0.04, 0.2])
        """How probably something goes wrong in a step: seldom enough for long rows of good looks, or all the time."""
        self.clock = 0.0
        self.boxes: dict[str, Box] = {}
        self.memory = Memory()
        self.ray_head = 1
        self.ray_back_at = self.dispatcher_back_at = 0.0
        self.storm_at = math.inf
        self.trouble: dict[str, float] = {}
        """Until when calls of the cloud go wrong, by how."""
        self.refusing = 0.3
        """How probably a call that ends a machine fails by itself."""
        self.lists: list[tuple[Instance, ...]] = []
        self.skew = timedelta(seconds=self.random.uniform(-30, 30))
        self._add(Kind.HEAD, member=True)
        self._add(Kind.WORKER, cluster="another", joins_in=math.inf)
        self._add(Kind.OTHER, joins_in=math.inf)
        for _ in range(self.random.randint(0, 3)):
            self._add(Kind.WORKER, generation=_OLD, joins_in=math.inf)

    def run(self, faults: int) -> None:
        """Live until so many faults have come, and then as long as everything must be right again."""
        while self.faults.total() < faults:
            self._step(faulty=True)
        self.trouble.clear()
        self.storm_at = math.inf
        self.refusing = 0.0
        self.ray_back_at = min(self.ray_back_at, self.clock)
        self.dispatcher_back_at = min(self.dispatcher_back_at, self.clock)
        for box in self.boxes.values():
            if not math.isinf(box.joins_at):  # as soon as after a head that is back now
                box.joins_at = min(box.joins_at, self.clock + _REJOIN)
        quiet = self.clock
        while self.clock < quiet + BOUND:
            self._step(faulty=False)
            if any(self._is_leak(box) for box in self.boxes.values()):
                self.slowest = self.clock - quiet
        self.leaked = [
            f"{box.instance.id} since {box.orphan_since}" for box in self.boxes.values() if self._is_leak(box)
        ]

    def _is_leak(self, box: Box) -> bool:
        ours = box.instance.cluster == _CLUSTER and box.instance.kind is Kind.WORKER
        return ours and box.is_orphan and not self._has_rival()

    def _has_rival(self) -> bool:
        return any(
            box.instance.kind is Kind.HEAD and not box.ended and box.instance.generation == _RIVAL
            for box in self.boxes.values()
        )

    def _add(
        self,
        kind: Kind,
        *,
        cluster: str = _CLUSTER,
        generation: str = _GENERATION,
        joins_in: float = 0.0,
        member: bool = False,
    ) -> None:
        name = f"i-{len(self.boxes)}"
        tags = {"simyard-generation": generation} | ({"simyard-group": "a"} if kind is Kind.WORKER else {})
        instance = Instance(
            id=name,
            cluster=cluster,
            kind=kind,
            node_type=self.random.choice(["a", "a", "a", "removed"]),
            machine_type="m5.large",
            market="spot",
            zone="z",
            launched_at=START + timedelta(seconds=self.clock),
            address=f"10.0.{len(self.boxes) // 250}.{len(self.boxes) % 250}",
            tags=tags,
        )
        self.boxes[name] = Box(instance=instance, joins_at=self.clock + joins_in, is_member=member)

    # What happens by itself.

    def _step(self, *, faulty: bool) -> None:
        self.clock += STEP
        if faulty and self.random.random() < self.rate:
            self._fault()
        if self.storm_at <= self.clock:
            self.storm_at = math.inf
            self._head_restarts()
        for box in self._ours():
            if not box.is_member and box.joins_at <= self.clock and self.clock >= self.ray_back_at:
                box.is_member = True
            if box.is_orphan and box.orphan_since is None:
                box.orphan_since = self.clock
        self._scale(faulty=faulty)
        if round(self.clock / STEP) % LOOK_STEPS == 0 and self.clock >= self.dispatcher_back_at:
            self._look()

    def _ours(self) -> list[Box]:
        """The workers that this cluster's Ray uses or will."""
        return [
            box
            for box in self.boxes.values()
            if not box.ended and box.instance.kind is Kind.WORKER and box.instance.generation == _GENERATION
        ]

    def _scale(self, *, faulty: bool) -> None:
        """Launch what is missing, as the autoscaler sees it, and now and then end a machine that is idle."""
        there = [box for box in self._ours() if not box.is_orphan]
        if len(there) < WANTED and self.clock >= self.ray_back_at:
            boots = self.random.uniform(20, 420)
            if faulty and self.random.random() < 0.2:
                boots = math.inf
                self.faults["never boots"] += 1
            self._add(Kind.WORKER, joins_in=boots)
            if faulty and self.random.random() < 0.2:
                # The launch was carried out and its answer lost: it is asked for again.
                self._add(Kind.WORKER, joins_in=self.random.choice([boots, math.inf]))
                self.faults["doubled launch"] += 1
        elif self.random.random() < 0.02 and (members := [box for box in there if box.is_member]):
            self._end(self.random.choice(members))

    def _end(self, box: Box) -> None:
        box.ended, box.is_member, box.joins_at = True, False, math.inf

    # What goes wrong.

    def _fault(self) -> None:
        name = self.random.choice(list(_FAULTS))
        if _FAULTS[name](self):
            self.faults[name] += 1

    def _troubled(self, what: str) -> bool:
        self.trouble[what] = self.clock + self.random.choice([15, 60, 200])
        return True

    def _sudden_death(self) -> bool:
        if not (members := [box for box in self._ours() if box.is_member]):
            return False
        box = self.random.choice(members)
        if self.keeps_stopped:
            box.is_member, box.joins_at, box.stopped = False, math.inf, True
        else:
            self._end(box)
        box.told_alive_until = self.clock + 60
        return True

    def _ray_dies(self) -> bool:
        """A machine goes on, and its Ray never comes back."""
        if not (members := [box for box in self._ours() if box.is_member]):
            return False
        box = self.random.choice(members)
        box.is_member, box.joins_at = False, math.inf
        box.told_alive_until = self.clock + self.random.choice([0, 60])
        return True

    def _cut(self) -> bool:
        """A machine is lost to Ray for minutes, and joins again.

        It had been there for as long as from one look to the next: one that flickers for minutes may well be ended.
        """
        settled = self.clock - STEP * LOOK_STEPS
        if not (members := [box for box in self._ours() if box.is_member and box.joins_at <= settled]):
            return False
        box = self.random.choice(members)
        box.is_member, box.joins_at = False, self.clock + self.random.uniform(10, _REJOIN)
        return True

    def _storm(self) -> bool:
        """Machines are cut off, and while some of them still are the head is started anew."""
        self.storm_at = self.clock + self.random.uniform(60, _REJOIN)
        return sum(self._cut() for _ in range(4)) > 0

    def _head_restarts(self) -> bool:
        """Ray's head forgets all members; they find it again within minutes. The dispatcher lives on the head."""
        self.ray_back_at = max(self.ray_back_at, self.clock + self.random.choice([10, 60, 200]))
        self.ray_head += 1
        for box in self._ours():
            if box.is_member:
                box.is_member, box.joins_at = False, self.ray_back_at + self.random.uniform(0, _REJOIN)
            elif not math.isinf(box.joins_at):
                box.joins_at = max(box.joins_at, self.ray_back_at + self.random.uniform(0, _REJOIN))
        return self.random.random() < 0.5 or self._dispatcher_restarts()

    def _ray_silent(self) -> bool:
        """Ray answers nobody for a while, and forgets nothing."""
        self.ray_back_at = max(self.ray_back_at, self.clock + self.random.choice([15, 60, 450]))
        return True

    def _dispatcher_restarts(self) -> bool:
        self.memory = Memory()
        self.dispatcher_back_at = self.clock + self.random.choice([0, 10, 120])
        return True

    def _rival_comes_or_goes(self) -> bool:
        """Somebody else's cluster has the same name; when its head goes, its machines are left."""
        rivals = [box for box in self.boxes.values() if box.instance.generation == _RIVAL and not box.ended]
        if not rivals:
            self._add(Kind.HEAD, generation=_RIVAL, member=True)
            for _ in range(2):
                self._add(Kind.WORKER, generation=_RIVAL, member=True)
        elif self.random.random() < 0.3:
            for box in rivals:
                box.is_member, box.joins_at = False, math.inf
                box.ended = box.ended or box.instance.kind is Kind.HEAD
        else:
            return False
        return True

    # What the reconciler sees and does.

    def _has(self, *what: str) -> bool:
        return any(self.trouble.get(one, 0) > self.clock for one in what)

    def _list(self) -> tuple[Instance, ...] | None:
        truth = tuple(
            replace(box.instance, is_ending=True, is_left_over=True) if box.stopped else box.instance
            for box in self.boxes.values()
            if not box.ended
        )
        self.lists = [*self.lists[-20:], truth]
        if self._has("throttled", "list fails", "partial page"):
            return None
        if self._has("empty list"):
            return ()
        if self._has("stale list"):
            return self.lists[self.random.randrange(len(self.lists))]
        if self._has("list lacks some"):
            return tuple(one for one in truth if self.random.random() < 0.7)
        return truth

    def _members(self) -> Members | None:
        if self.clock < self.ray_back_at:
            return None
        known = [
            box
            for box in self.boxes.values()
            if (box.is_member and box.instance.generation == _GENERATION) or box.told_alive_until > self.clock
        ]
        # Every fifth machine could not learn its id from its cloud.
        nameless = [box for box in known if int(box.instance.id[2:]) % 5 == 0]
        return Members(
            head=f"head-{self.ray_head}",
            instances=frozenset(box.instance.id for box in known if box not in nameless),
            addresses=frozenset(box.instance.address for box in known),
        )

    def _look(self) -> None:
        listed = self._list()
        now = START + timedelta(seconds=self.clock) + self.skew
        look = Look(now=now, clock=self.clock, listed=listed, members=self._members())
        asked = Asked(cluster=_CLUSTER, generation=_GENERATION, node_types=frozenset({"a"}))
        self.memory, ends = self.decide(self.memory, look, asked, self.rules)
        for end in ends:
            box = self.boxes[end.instance.id]
            if not box.ended and not self._is_rightly_ended(box):
                self.wrong.append(f"{self.clock:g} s: {box.instance.id} ({end.reason})")
            if self._has("throttled", "end fails") or self.random.random() < self.refusing:
                self.faults["end fails"] += 1
                continue
            self.ended += not box.ended
            # Where the answer is lost the machine ends all the same; the reconciler hears nothing either way.
            self._end(box)

    def _is_rightly_ended(self, box: Box) -> bool:
        one = box.instance
        if one.generation == _RIVAL and self._has_rival():
            return False
        return one.cluster == _CLUSTER and one.kind is Kind.WORKER and box.is_orphan


_FAULTS: dict[str, Callable[[World], bool]] = {
    "throttled": lambda world: world._troubled("throttled"),
    "list fails": lambda world: world._troubled("list fails"),
    "partial page": lambda world: world._troubled("partial page"),
    "empty list": lambda world: world._troubled("empty list"),
    "stale list": lambda world: world._troubled("stale list"),
    "list lacks some": lambda world: world._troubled("list lacks some"),
    "end fails": lambda world: world._troubled("end fails"),
    "sudden death": World._sudden_death,
    "Ray dies on a machine": World._ray_dies,
    "machine cut off": World._cut,
    "storm": World._storm,
    "head restarts": World._head_restarts,
    "Ray silent": World._ray_silent,
    "dispatcher restarts": World._dispatcher_restarts,
    "a rival comes or goes": World._rival_comes_or_goes,
}
