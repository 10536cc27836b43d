"""One world from its first task to its last, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cluster.fleet import Room
from simyard.errors import NotFound, SimyardError, Unavailable
from simyard.files import InputFile
from simyard.resources import GIB, Limits, Resources
from simyard.retry import Retry
from simyard.simulator import RuntimeName
from simyard.task import TaskSpec
from simyard.words import TaskId
from tasks.desk import Desk
from tasks.lifecycle import Cancel
from tasks.placement import Host
from tasks.prices import Prices, Sold
from tasks.record import Draft
from tests.simulation.actors import LEASE, WARM, Actor, Cluster, SimMachine
from tests.simulation.checkpointing import Checkpointing
from tests.simulation.faults import Faults, draw, none
from tests.simulation.process import MakeDesk, Process, SimStore, WatchedStore
from tests.simulation.promises import END_BOUND, Promises
from tests.simulation.reusing import Reusing, one_after_the_other
from tests.simulation.sharing import Sharing
from tests.simulation.standby import Lead, Leadership, Standby, second
from tests.simulation.world import PromiseBroken, World

LIVES = 400
SHARED = 2000
"""From this seed on users also chain and hold tasks, pause and limit each other; before, worlds stay as they were."""
PACKED = 4000
"""From this seed on machines have disks, and tasks ask for some of it or for a machine of their own."""
REUSED = 6000
"""From this seed on tasks may have the results of earlier ones, and users remove outputs and tasks."""
KEPT = 7000
"""From this seed on attempts keep snapshots for the next one, and machines are taken away with notice."""
STANDBY = 8000
"""From this seed on two servers have one store, and only one of their dispatchers leads."""
SPREAD = 9000
"""From this seed on tasks may run on two machines at once."""
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_INPUTS = (InputFile(path="model.inp", sha256="a" * 64, size=12),)


class Broken(AssertionError):  # noqa: N818 - as in 'a promise is broken'
    """A promise was broken; says which, in which world, and what had happened just before."""

    def __init__(self, seed: int, lives: int, promise: str, story: str) -> None:
        super().__init__(
            f"{promise}\n\nThe last steps of this world:\n{story}\n\n"
            f"Play it again: python -m tests.simulation --seed {seed}"
        )
        self.promise = promise


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a world."""

    lives: int
    """Tasks from submission to their end."""
    steps: int
    seconds: float
    """Simulated."""
    crashes: int
    executions: int
    """Attempts that an actor had begun."""


class Simulation:
    """Machines, users and the dispatcher of one world."""

    def __init__(
        self,
        seed: int,
        lives: int,
        *,
        make_desk: MakeDesk = Desk,
        faults: Faults | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.world = world = World(seed, trace=trace)
        self.lives = lives
        self.faults = draw(world.random) if faults is None else faults
        self.inner = WatchedStore()
        self.promises = Promises(world, self.inner)
        self.store = SimStore(world, self.inner, self.promises)
        self.clusters = [Cluster(world, self.faults, self.promises)]
        self.crashes = 0
        self._make_desk = make_desk
        self._sent = 0
        self._stopped = False
        hosts, self._specs = _shape(world) if seed < PACKED else _packed(world, *_shape(world))
        if seed >= SPREAD:
            self._specs = _spread(world, hosts, self._specs)
        for host in hosts:
            self.clusters[0].add_machine(host)
        self._lead: Leadership | None = None
        if seed // 1000 * 1000 == STANDBY:
            self.clusters.append(Cluster(world, self.faults, self.promises, "second"))
            for host in second(hosts):
                self.clusters[1].add_machine(host)
            self._lead = Leadership(world, self.promises)
            self._standby = Standby(world, self.clusters, self._start_process)
            self.promises.cancel_bound = END_BOUND  # both may be away for minutes
        for cluster in self.clusters:
            cluster.prices = _prices(hosts)
        slots = sum(host.cpus for host in hosts)
        self._gap = 3.0 / max(slots, 1.0)
        self._crowd = world.random.choice([5, 20, 20, 60])
        self._sharing: Sharing | None = None
        if seed >= SHARED:
            groups = sorted({host.group for host in hosts})
            self._sharing = Sharing(world, self.store, self.promises, groups, lambda: self.faults, self._wake)
        self._reusing: Reusing | None = None
        if seed // 1000 * 1000 == REUSED:
            self._reusing = Reusing(world, self.store, self.promises, lambda: self.faults)
        self._checkpoints: Checkpointing | None = None
        if seed // 1000 * 1000 == KEPT:
            self._checkpoints = Checkpointing(world, self.clusters[0], self.promises)
            self.clusters[0].checkpoints = self._checkpoints
        for cluster in self.clusters:
            self._start_process(cluster)
        self._plan_faults()
        world.after(0.0, self._arrive)

    def run(self) -> Report:
        """Return what came of the world.

        Raises:
            Broken: a promise was broken.
        """
        try:
            with _listening(self.promises), one_after_the_other():
                self._run()
        except PromiseBroken as broken:
            raise Broken(self.world.seed, self.lives, str(broken), self.world.story()) from broken
        world = self.world
        return Report(
            lives=self.promises.submitted,
            steps=world.steps,
            seconds=world.at,
            crashes=self.crashes,
            executions=sum(cluster.executions for cluster in self.clusters),
        )

    def _run(self) -> None:
        world, promises = self.world, self.promises
        checked = 0
        moved = (0, 0.0)
        while self._sent < self.lives:
            world.run(world.at + 5.0)
            if (ended := promises.submitted - len(promises.open)) > moved[0]:
                moved = (ended, world.at)
            elif world.at > moved[1] + END_BOUND:
                # Machines that live for less than a task needs: what matters is that all end once the faults stop.
                world.note("nothing has ended for long; no more tasks are sent")
                self.lives = self._sent
            if self._sent - checked >= 100:
                checked = self._sent
                promises.check_all()
        self._stop_faults()
        deadline = world.at + END_BOUND
        world.run(world.at + 10.0)
        while promises.open:
            world.run(world.at + 5.0)
            if world.at > deadline:
                left = [life.record for life in promises.lives.values() if life.record]
                names = [f"{r.id} {r.status} ready {r.ready_at} {r.holder}" for r in left if not r.status.is_end]
                promises.fail(f"the faults stopped {END_BOUND:.0f} s ago, and these have not ended: {names[:5]}")
        # Now everything that is warm grows cold, and every message that is late has come.
        world.run(world.at + 2 * (LEASE + 60.0) + WARM + 150.0)
        [process] = [process for process in self._processes() if process.is_leading]
        desk: Any = process.desk
        alive = [a for a in process.cluster.actors.values() if a.alive]
        kept: dict[str, Any] = {
            "actors": list(desk._crew),
            "carriers": desk._crew._carriers,
            "cancels": desk._cancels,
            "leases": desk._leases._heard,
            "takeovers": list(desk._takeovers),
        }
        machines = [machine for cluster in self.clusters for machine in cluster.machines.values()]
        boxes = [box for machine in machines for box in machine.boxes.values()]
        kept["runs"] = [(box.task, box.attempt) for box in boxes if box.carrier is not None]
        promises.check_end(alive, kept)

    # The dispatcher, or both.

    def _start_process(self, cluster: Cluster) -> None:
        if self._lead is not None and not self._standby.comes_back(cluster):
            return
        self.world.note("the dispatcher starts", *([cluster.name] if self._lead else []))
        faults = none() if self._stopped else self.faults
        lead = Lead(self._lead, cluster.name) if self._lead is not None else None
        process = Process(self.world, cluster, faults, self.store, self._make_desk, lead)
        process.on_death = partial(self._died, cluster)
        cluster.process = process

    def _died(self, cluster: Cluster) -> None:
        self.crashes += 1
        self.world.after(self.world.between(0.5, 8.0), self._start_process, cluster)

    def _processes(self) -> list[Process]:
        return [cluster.process for cluster in self.clusters if cluster.process is not None]

    def _some_cluster(self) -> Cluster:
        return self.world.random.choice(self.clusters) if len(self.clusters) > 1 else self.clusters[0]

    # Faults that come by themselves.

    def _plan_faults(self) -> None:
        faults = self.faults
        for name, act in (
            ("crash_every", self._crash),
            ("dispatcher_freezes_every", self._freeze_dispatcher),
            ("store_down_every", self._store_down),
            ("storage_down_every", self._storage_down),
            ("actor_dies_every", self._kill_actor),
            ("actor_freezes_every", self._freeze_actor),
            ("head_dies_every", self._kill_head),
            ("machine_dies_every", self._kill_machine),
            ("machine_dies_silently_every", self._kill_machine_silently),
            ("machine_cut_off_every", self._cut_off),
            ("clock_jumps_every", self._jump),
        ):
            every: float = getattr(faults, name)
            if every:
                self.world.after(self.world.around(every), self._again, every, act)

    def _again(self, every: float, act: Callable[[], None]) -> None:
        if not self._stopped:
            act()
            self.world.after(self.world.around(every), self._again, every, act)

    def _stop_faults(self) -> None:
        self.world.note("the faults stop")
        self._stopped = True
        if self._sharing is not None:
            self._sharing.stop()
        quiet = self.faults = none()
        for cluster in self.clusters:
            cluster.faults = quiet
        for process in self._processes():
            process.faults = quiet
            process._danger = 0.0
        if self._lead is not None:
            self._standby.stop()
        if self._checkpoints is not None:
            self._checkpoints.stop()

    def _crash(self) -> None:
        process = self._some_cluster().process
        if process is not None:
            process.die("from outside")

    def _freeze_dispatcher(self) -> None:
        process = self._some_cluster().process
        if process is not None and process.alive:
            process.freeze(self.world.between(1.0, 90.0))

    def _store_down(self) -> None:
        self.store.down_until = self.world.at + self.world.between(1.0, 90.0)
        self.world.note("the store is down until", self.store.down_until)

    def _storage_down(self) -> None:
        until = self.world.at + self.world.between(1.0, 120.0)
        for cluster in self.clusters:
            cluster.storage_down_until = until
        self.world.note("the storage is down until", until)

    def _some_actor(self, cluster: Cluster) -> Actor | None:
        alive = [actor for actor in cluster.actors.values() if actor.alive]
        return self.world.random.choice(alive) if alive else None

    def _kill_actor(self) -> None:
        cluster = self._some_cluster()
        actor = self._some_actor(cluster)
        if actor is not None:
            cluster.kill(actor, noticed=self.world.between(0.0, 2.0))

    def _freeze_actor(self) -> None:
        cluster = self._some_cluster()
        actor = self._some_actor(cluster)
        if actor is not None and actor.frozen_until <= self.world.at:
            cluster.freeze(actor)

    def _kill_head(self) -> None:
        self.world.note("the head dies")
        cluster = self._some_cluster()
        if cluster.process is not None:
            cluster.process.die("from outside")
        for machine in list(cluster.machines.values()):
            cluster.restart_ray(machine)

    def _kill_machine(self) -> None:
        self._some_machine(lambda cluster, machine: cluster.kill_machine(machine, silent=False))

    def _kill_machine_silently(self) -> None:
        self._some_machine(lambda cluster, machine: cluster.kill_machine(machine, silent=True))

    def _cut_off(self) -> None:
        self._some_machine(lambda cluster, machine: cluster.cut_off(machine))

    def _some_machine(self, act: Callable[[Cluster, SimMachine], None]) -> None:
        cluster = self._some_cluster()
        machines = [machine for machine in cluster.machines.values() if machine.alive]
        if machines:
            act(cluster, self.world.random.choice(machines))

    def _jump(self) -> None:
        seconds = self.world.between(-300.0, 300.0)
        self.world.note(f"the clock jumps by {seconds:.1f} s")
        self.world.skew += seconds

    # Users.

    def _arrive(self) -> None:
        """A user sends some tasks."""
        world = self.world
        if self._sent >= self.lives:
            return
        if len(self.promises.open) > self._crowd:
            world.after(1.0, self._arrive)
            return
        for _ in range(1 if world.chance() < 0.7 else int(world.between(2.0, 12.0))):
            self._sent += 1
            chance = world.chance()
            draft = Draft(
                id=self._new_id(),
                spec=world.random.choice(self._specs),
                user="ada" if chance < 0.5 else "bob",
                key=f"key-{self._sent}" if chance < 0.9 else None,
                digest=f"digest-{self._sent}",
            )
            if self._sharing is not None:
                draft = self._sharing.shared(draft)
            if self._checkpoints is not None:
                draft = self._checkpoints.shared(draft)
            if self._reusing is not None:
                draft = self._reusing.shared(draft)
            self.promises.drafted(draft, poison=chance > 0.995)
            self._submit(draft)
        self._wake()
        world.after(world.around(self._gap * 2.0), self._arrive)

    def _wake(self) -> None:
        for process in self._processes():
            process.wake()

    def _new_id(self) -> TaskId:
        bits = self.world.random.getrandbits(60)
        return TaskId("t" + "".join(_ALPHABET[bits >> 5 * i & 31] for i in range(12)))

    def _submit(self, draft: Draft, tries: int = 0) -> None:
        """Send a task until the answer has come; sometimes send it once more although it has."""
        world, faults = self.world, self.faults
        if self.promises.lives[draft.id].is_forgotten:
            return  # nobody sends an id of ours again but within one request
        try:
            self.store.check(faults)
        except Unavailable:
            world.after(world.between(0.5, 5.0), self._submit, draft, tries + 1)
            return
        [answer] = self.inner.submit([draft], world.now())
        arrives = world.chance() >= faults.answer_to_user_lost
        self.promises.answered(draft, answer, arrives=arrives)
        if answer.record is None:
            return
        if answer.created:
            world.note("submitted", draft.id)
            if world.chance() < 0.06:
                world.after(world.around(4.0), self._cancel, draft.id)
        if not arrives or world.chance() < 0.01:
            if draft.key is not None:
                # Whoever sends a request again draws a new id; the key says that it is the same.
                again = draft._replace(id=self._new_id())
                self.promises.drafted(again, poison=False)
            else:
                again = draft
            world.after(world.between(0.5, 30.0), self._submit, again, tries + 1)

    def _cancel(self, task: str) -> None:
        world = self.world
        try:
            self.store.check(self.faults)
            self.store.apply(task, Cancel(), self.faults)
        except NotFound:
            return
        except SimyardError:
            world.after(1.0, self._cancel, task)
            return
        self.promises.cancelled(task)
        self._wake()
        if world.chance() < 0.2:
            world.after(world.around(3.0), self._cancel, task)


def _prices(hosts: Sequence[Host]) -> Prices:
    """Return prices: machines of one group differ, so that an estimate is not always what it becomes."""
    sold = {}
    for number, host in enumerate(hosts):
        offers = Room(cpus=host.cpus, memory=host.memory, gpus=host.gpus)
        sold[host.node_type] = Sold(group=host.group, offers=offers, usd_per_hour=0.25 * (number + 1))
    return Prices(machines=sold)


def _shape(world: World) -> tuple[list[Host], list[TaskSpec]]:
    """Return the machines of a world, and the kinds of tasks that its users send: each fits on some machine."""
    random = world.random
    hosts = [
        Host(
            id=f"m{i}-0",
            name=f"m{i}",
            node_type=f"m{i}",
            group="local" if i == 0 or random.random() < 0.7 else "big",
            cpus=float(random.choice([1, 2, 4, 8])),
            memory=random.choice([4, 8, 16]) * GIB,
            gpus=random.choice([0, 0, 1]),
        )
        for i in range(random.choice([1, 2, 3, 4]))
    ]
    specs = []
    for _ in range(random.choice([1, 3, 8])):
        host = random.choice(hosts)
        cpus = random.choice([c for c in (0.1, 0.5, 1.0, 1.0, 1.0, 2.0, host.cpus) if c <= host.cpus])
        resources = Resources(
            cpus=cpus,
            memory=random.choice([GIB // 2, GIB, min(4 * GIB, host.memory)]),
            gpus=random.choice([0, 0, 0, host.gpus]),
        )
        again = Retry(on=("out-of-memory", "exit-code:3"), memory=min(2 * resources.memory, host.memory))
        if resources.memory == host.memory:
            again = Retry(on=("exit-code",))
        specs.append(
            TaskSpec(
                simulator=random.choice(["swmm", "swmm", "calculix"]),
                version="1.0",
                runtime=RuntimeName.NATIVE,
                inputs=_INPUTS,
                resources=resources,
                group=host.group,
                priority=random.choice([0, 0, 0, 5, -5]),
                retries=(retries := random.choice([0, 0, 1, 3])),
                retry=random.choice([Retry(), again]) if retries else Retry(),
                limits=Limits(queue=random.choice([None, None, None, 120.0])),
            )
        )
    return hosts, specs


def _packed(world: World, hosts: list[Host], specs: list[TaskSpec]) -> tuple[list[Host], list[TaskSpec]]:
    """Return the machines with disks, and the tasks with what some of them ask for besides."""
    random = world.random
    disks = {group: random.choice([10, 30, 100]) * GIB for group in sorted({host.group for host in hosts})}

    def more(spec: TaskSpec) -> TaskSpec:
        whole = random.random() < 0.3
        resources = Resources(whole_machine=True) if whole else spec.resources
        disk = random.choice([resources.disk, GIB, 4 * GIB, disks[spec.group]])
        asked = {"resources": resources.model_copy(update={"disk": disk})}
        return spec.model_copy(update=asked | ({"retry": Retry()} if whole else {}))

    return [replace(host, disk=disks[host.group]) for host in hosts], [more(spec) for spec in specs]


def _spread(world: World, hosts: Sequence[Host], specs: Sequence[TaskSpec]) -> list[TaskSpec]:
    """Return the tasks, some of which run on two machines where two of their group can hold them."""

    def more(spec: TaskSpec) -> TaskSpec:
        able = [host for host in hosts if host.group == spec.group and _holds(host, spec.resources)]
        if len(able) < 2 or world.random.random() < 0.5:
            return spec
        return spec.model_copy(
            update={"resources": spec.resources.model_copy(update={"machines": 2}), "retry": Retry()}
        )

    return [more(spec) for spec in specs]


def _holds(host: Host, need: Resources) -> bool:
    return need.whole_machine or (need.cpus <= host.cpus and need.memory <= host.memory and need.gpus <= host.gpus)


@contextmanager
def _listening(promises: Promises) -> Iterator[None]:
    """Let no defect pass that the core has caught and written to its log."""

    def heard(record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and not issubclass(kind, SimyardError):
            promises.fail(f"the core has caught a defect: {record.exc_info}")
        return False

    log = logging.getLogger("tasks.desk")
    log.addFilter(heard)
    try:
        yield
    finally:
        log.removeFilter(heard)


def simulate(seed: int, lives: int = LIVES, **options: Any) -> Report:
    """Return what came of the world with that seed.

    Raises:
        Broken: a promise was broken.
    """
    return Simulation(seed, lives, **options).run()
