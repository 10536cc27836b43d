"""Simulated machines and the Simulator actors on them: they carry attempts, store outputs, report, freeze and die.

What an actor runs stands on its machine in a box of its own: it goes on when the actor dies, and another actor of the
machine may take it over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulators.outcome import Outcome
from simulators.reports import GATHER
from simulators.work import Fact, News, Report, Stall
from simyard.errors import Unavailable
from simyard.reason import Reason, ReasonCode
from simyard.status import Status
from tasks.holders import Broken, Gone, Left, OnLeft, Unreachable, Verdict
from tasks.placement import Host, Kind
from tasks.prices import NO_PRICES
from tests.simulation.faults import Faults
from tests.simulation.promises import Promises
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.checkpointing import Checkpointing
    from tests.simulation.process import Process

LEASE = 30.0
WARM = 60.0
_EVERY = LEASE / 3
_PATIENCE = 10.0
"""Seconds that an actor waits for the answer to a report."""
_ADOPTION_SECONDS = 900.0
_PATIENCE_FOR_LOCK = 10.0
_NODE_DEATH = 30.0
"""Seconds after which Ray takes a machine that it cannot reach as dead."""

SUCCEEDED = Outcome(status=Status.SUCCEEDED, exit_code=0, cpu_seconds=1.5)
FAILED = Outcome(status=Status.FAILED, reason=Reason(code=ReasonCode.EXIT_CODE, message="Exit code 3."), exit_code=3)
OUT_OF_MEMORY = Outcome(status=Status.FAILED, reason=Reason(code=ReasonCode.OUT_OF_MEMORY, message="Too much."))
TIMED_OUT = Outcome(status=Status.TIMED_OUT, reason=Reason(code=ReasonCode.TIME_LIMIT, message="Too long."))
CANCELLED = Outcome(
    status=Status.CANCELLED, reason=Reason(code=ReasonCode.CANCELLED_BY_USER, message="It was cancelled.")
)
IMAGE_ERROR = Outcome(status=Status.FAILED, reason=Reason(code=ReasonCode.IMAGE_ERROR, message="No image."))
PREEMPTED = Outcome(status=Status.FAILED, reason=Reason(code=ReasonCode.PREEMPTED, message="Taken back."))
_STORED = {id(o): o.model_copy(update={"stored": True}) for o in (SUCCEEDED, FAILED, OUT_OF_MEMORY, TIMED_OUT)}
_CANCELLED_STORED = CANCELLED.model_copy(update={"stored": True})


@dataclass(frozen=True)
class Handed:
    """An attempt that was given to an actor, and who waits to hear of its end."""

    task: str
    attempt: int
    left: OnLeft
    process: Process
    adopting: bool = False


class Box:
    """What an attempt runs on its machine: it ends at its time, whoever watches."""

    __slots__ = ("attempt", "carrier", "ends_at", "left_at", "outcome", "task")

    def __init__(self, run: Run, ends_at: float, outcome: Outcome | None) -> None:
        self.task = run.task
        self.attempt = run.attempt
        self.carrier: Run | None = run
        """Who has its lock."""
        self.ends_at = ends_at
        self.outcome = outcome
        """None where nothing is left that knows of the end."""
        self.left_at = 0.0


class Run:
    """An attempt while an actor carries it."""

    __slots__ = (
        "actor",
        "attempt",
        "box",
        "handed",
        "heard",
        "outcome",
        "over",
        "sending",
        "stage",
        "stopped",
        "task",
        "unsent",
    )

    def __init__(self, actor: Actor, handed: Handed) -> None:
        self.actor = actor
        self.handed = handed
        self.task = handed.task
        self.attempt = handed.attempt
        self.stage = "staging"
        self.unsent: deque[tuple[Fact, float]] = deque()
        """What it has to report, and since when."""
        self.box: Box | None = None
        self.sending = False
        self.over = False
        """It was superseded, or has ended."""
        self.stopped = False
        self.outcome: Outcome | None = None
        self.heard = float("-inf")
        """When the dispatcher last heard of it."""


class SimMachine:
    """A machine that may die, or be cut off."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.alive = True
        self.listed = True
        self.cut_until = 0.0
        self.actors: dict[str, Actor] = {}
        self.boxes: dict[tuple[str, int], Box] = {}


class Actor:
    """A Simulator actor: it carries one attempt at a time."""

    __slots__ = (
        "alive",
        "cluster",
        "declared_dead",
        "frozen_until",
        "is_given",
        "kind",
        "machine",
        "name",
        "others",
        "run",
        "up",
        "waiting",
        "watchers",
    )

    def __init__(self, name: str, kind: Kind, machine: SimMachine, cluster: str) -> None:
        self.name = name
        self.cluster = cluster
        self.kind = kind
        self.machine = machine
        self.alive = True
        self.up = False
        self.declared_dead = False
        """Ray has told, or will tell, that it is dead; it may still compute for a while."""
        self.frozen_until = 0.0
        self.is_given: bool | None = None
        """Its first attempt was given to it from the beginning, so its machine must have room for it."""
        self.others: tuple[str, ...] = ()
        """The other machines of the attempt that it was given last."""
        self.waiting: deque[Handed] = deque()
        self.run: Run | None = None
        self.watchers: list[Handed] = []

    @property
    def carries(self) -> tuple[str, int] | None:
        """Return the attempt that it carries."""
        return (self.run.task, self.run.attempt) if self.run else None


class Cluster:
    """All machines and actors, and what happens to them."""

    def __init__(self, world: World, faults: Faults, promises: Promises, name: str = "sim") -> None:
        self.world = world
        self.name = name
        self.faults = faults
        self.promises = promises
        self.machines: dict[str, SimMachine] = {}
        self.departed: set[str] = set()
        """Names of the machines that Ray knows to have died; a new head has forgotten them."""
        self.actors: dict[str, Actor] = {}
        self.manifests: dict[tuple[str, int], tuple[Outcome, int]] = {}
        """The outcome of each attempt whose outputs are stored, and at which step they were."""
        self.storage_down_until = 0.0
        self.prices = NO_PRICES
        self.away_until = 0.0
        """Its server is gone until then; its dispatcher does not start before."""
        self.process: Process | None = None
        self.executions = 0
        self._number = 0
        self.checkpoints: Checkpointing | None = None

    # Machines.

    def add_machine(self, host: Host, boxes: dict[tuple[str, int], Box] | None = None) -> None:
        """Let a machine join, with what runs on it already."""
        self.departed.discard(host.name)
        machine = self.machines[host.id] = SimMachine(host)
        machine.boxes = boxes or {}

    def kill_machine(self, machine: SimMachine, *, silent: bool) -> None:
        """Let a machine die; another one of its kind comes after a while."""
        if not machine.alive:
            return
        world = self.world
        world.note("machine", machine.host.id, "dies", "silently" if silent else "")
        noticed = world.between(5.0, 40.0) if silent else world.between(0.0, 2.0)
        machine.boxes = {}
        self._lose(machine, noticed, noticed + world.between(5.0, 60.0))

    def restart_ray(self, machine: SimMachine) -> None:
        """Let Ray on a machine die with all actors and start anew; what runs there goes on."""
        if machine.alive:
            self.world.note("machine", machine.host.id, "loses its Ray")
            self._lose(machine, 0.0, self.world.between(0.1, 3.0))

    def _lose(self, machine: SimMachine, noticed: float, back: float) -> None:
        machine.alive = False
        for actor in list(machine.actors.values()):
            self.kill(actor, noticed=noticed)
        self.world.after(noticed, self._unlist, machine)
        self._number += 1
        # Ray gives a machine a new id when it starts anew; its name stays.
        host = replace(machine.host, id=f"{machine.host.name}-{self._number}", is_leaving=False)
        self.world.after(back, self.add_machine, host, machine.boxes)

    def _unlist(self, machine: SimMachine) -> None:
        machine.listed = False
        # As if the head had come back without its memory, for every other one.
        if self.world.chance() < 0.5:
            self.departed.add(machine.host.name)
        self.machines.pop(machine.host.id, None)

    def cut_off(self, machine: SimMachine) -> None:
        """Let nothing pass between a machine and the dispatcher for a while."""
        world = self.world
        if not machine.alive or machine.cut_until > world.at:
            return
        seconds = world.between(2.0, 90.0)
        machine.cut_until = world.at + seconds
        world.note("machine", machine.host.id, f"is cut off for {seconds:.1f} s")
        if seconds > _NODE_DEATH:
            world.after(_NODE_DEATH, self._declare_dead, machine)
            world.after(seconds, self._heal, machine)

    def _declare_dead(self, machine: SimMachine) -> None:
        """Ray takes the machine as dead, although it computes."""
        if not machine.alive:
            return
        self.world.note("machine", machine.host.id, "is taken as dead")
        self._unlist(machine)
        for actor in machine.actors.values():
            self._tell_gone(actor, 0.0)

    def _heal(self, machine: SimMachine) -> None:
        """Ray on the machine finds that it was taken as dead and ends all of its own."""
        self.restart_ray(machine)

    # Actors.

    def start(self, kind: Kind, host: str) -> Actor:
        """Start an actor; it is up when the machine has room for it."""
        world = self.world
        self._number += 1
        name = f"{self.name}-{self._number}"
        machine = self.machines.get(host)
        world.note("start", name, "on", host, kind.simulator, kind.resources.cpus)
        if machine is None:
            actor = Actor(name, kind, SimMachine(Host(id=host, group="", cpus=0, memory=0, gpus=0)), self.name)
            actor.alive, actor.declared_dead = False, True
            self.actors[name] = actor
            return actor
        actor = Actor(name, kind, machine, self.name)
        self.actors[name] = actor
        machine.actors[name] = actor
        if machine.alive:
            slow = world.chance() < 0.02
            world.after(world.between(5.0, 70.0) if slow else world.between(0.05, 0.6), self._up, actor)
        else:
            self.kill(actor, noticed=world.between(1.0, 30.0))
        return actor

    def _up(self, actor: Actor) -> None:
        if not actor.alive or actor.up:
            return
        machine = actor.machine
        up = [other.kind.resources for other in machine.actors.values() if other.up]
        need, host = actor.kind.resources, machine.host
        if (
            sum(r.cpus for r in up) + need.cpus > host.cpus + 1e-6
            or sum(r.memory for r in up) + need.memory > host.memory
            or sum(r.gpus for r in up) + need.gpus > host.gpus
            or sum(r.reserved_disk for r in up) + need.reserved_disk > host.disk
        ):
            self.world.after(0.2, self._up, actor)
            return
        actor.up = True
        self._begin(actor)

    def kill(self, actor: Actor, *, noticed: float | None) -> None:
        """Let an actor die; Ray tells those who wait for it after `noticed` seconds, never for None."""
        if not actor.alive:
            return
        self.world.note("actor", actor.name, "dies; it carried", actor.carries)
        actor.alive = actor.up = False
        actor.machine.actors.pop(actor.name, None)
        if noticed is not None:
            self._tell_gone(actor, noticed)
        if actor.run is not None and actor.run.box is not None and actor.run.box.carrier is actor.run:
            box = actor.run.box
            box.carrier, box.left_at = None, self.world.at
            self.world.after(_ADOPTION_SECONDS, self._reap, actor.machine, box)
        actor.run = None
        actor.waiting.clear()
        actor.watchers.clear()

    def _reap(self, machine: SimMachine, box: Box) -> None:
        """A run that nobody has watched for a while ends itself."""
        if box.carrier is None and self.world.at - box.left_at >= _ADOPTION_SECONDS - 0.001:
            machine.boxes.pop((box.task, box.attempt), None)

    def _tell_gone(self, actor: Actor, noticed: float) -> None:
        actor.declared_dead = True
        waits = [*actor.waiting, *actor.watchers]
        if actor.run is not None:
            waits.append(actor.run.handed)
        for handed in waits:
            self.world.after(noticed, self._tell, handed, Gone())

    def end(self, name: str) -> None:
        """Do what `ray.kill` does: from now on it is dead for Ray, and a moment later it is."""
        actor = self.actors.get(name)
        if actor is None or not actor.alive:
            return
        self.world.note("end", name, "it carries", actor.carries)
        self.promises.ends(actor)
        self._tell_gone(actor, self.world.between(0.0, 0.5))
        if actor.machine.cut_until > self.world.at:
            self.world.after(actor.machine.cut_until - self.world.at, self._kill_now, actor)
        else:
            self.world.after(self.world.between(0.01, 0.5), self._kill_now, actor)

    def _kill_now(self, actor: Actor) -> None:
        self.kill(actor, noticed=None)

    def freeze(self, actor: Actor) -> None:
        """Stop an actor for a while."""
        seconds = self.world.between(1.0, 120.0)
        self.world.note("actor", actor.name, f"freezes for {seconds:.1f} s; it carries", actor.carries)
        actor.frozen_until = self.world.at + seconds
        self.world.after(seconds + 0.001, self._begin, actor)

    def _tell(self, handed: Handed, left: Left) -> None:
        handed.process.told(handed.left, left, handed)

    def unreachable(self, actor: Actor, handed: Handed, left: OnLeft) -> None:
        """Let Ray say that an actor cannot be reached, whatever it does."""
        if not actor.declared_dead:
            self.world.note("unreachable", actor.name, handed.task, handed.attempt)
        why: Left = Gone() if actor.declared_dead else Unreachable()
        handed.process.told(left, why, handed)

    # What an actor is asked.

    def take(self, actor: Actor, handed: Handed) -> None:
        """Give an actor an attempt to carry."""
        if not actor.alive or actor.declared_dead:
            if actor.declared_dead:
                self.world.after(0.01, self._tell, handed, Gone())
            return
        actor.waiting.append(handed)
        self._begin(actor)

    def watch(self, actor: Actor, handed: Handed) -> None:
        """Let somebody know when an actor does not carry an attempt any more."""
        if not actor.alive or actor.declared_dead:
            self.world.after(0.01, self._tell, handed, Gone())
        elif actor.carries != (handed.task, handed.attempt):
            self.world.after(0.01, self._tell, handed, None)
        else:
            actor.watchers.append(handed)

    def cancel(self, actor: Actor, task: str, attempt: int) -> None:
        """Tell an actor to end an attempt."""
        if not actor.alive:
            return
        if actor.frozen_until > self.world.at:
            self.world.after(actor.frozen_until - self.world.at + 0.01, self.cancel, actor, task, attempt)
            return
        run = actor.run
        if run is None or (run.task, run.attempt) != (task, attempt) or run.stopped or run.over:
            return
        run.stopped = True
        self.world.note("actor", actor.name, "stops", task, attempt, "while", run.stage)
        if run.stage == "running":
            run.outcome = CANCELLED
            self.later(self.world.between(0.05, 3.0), run, self._ran)
        elif run.stage != "reporting":
            self.later(self.world.between(0.05, 1.0), run, self._gives_up)

    # An attempt.

    def _begin(self, actor: Actor) -> None:
        if not actor.alive or not actor.up or actor.run is not None or not actor.waiting:
            return
        world = self.world
        if actor.frozen_until > world.at:
            return
        handed = actor.waiting.popleft()
        run = actor.run = Run(actor, handed)
        self.executions += 1
        world.note("actor", actor.name, "begins", run.task, run.attempt)
        self.promises.begun(run)
        self.later(_EVERY, run, self._renew)
        if handed.adopting:
            self._adopts(run, world.at + _PATIENCE_FOR_LOCK)
            return
        boxes = actor.machine.boxes
        for key in [key for key, box in boxes.items() if key[0] == run.task and box.carrier is None]:
            # An earlier attempt at the task that still runs here has lost its place.
            del boxes[key]
        self.later(world.around(0.3), run, self._staged)

    def _adopts(self, run: Run, deadline: float) -> None:
        """Take a run over, once whoever had it has died."""
        world = self.world
        box = run.actor.machine.boxes.get((run.task, run.attempt))
        if box is not None and box.carrier is not None and world.at < deadline:
            self.later(0.5, run, lambda run: self._adopts(run, deadline))
        elif box is None or box.carrier is not None or box.outcome is None or run.actor.kind.resources.machines > 1:
            if box is not None and box.carrier is None:
                del run.actor.machine.boxes[run.task, run.attempt]
            self._drops(run, Broken("NotAdoptable()"))
        else:
            world.note("actor", run.actor.name, "takes over", run.task, run.attempt)
            box.carrier, run.box, run.outcome, run.stage = run, box, box.outcome, "running"
            if box.ends_at > world.at:
                self._report(run, Status.RUNNING)
                if self.checkpoints is not None:
                    self.checkpoints.goes_on(run)
            self._goes_on(run, max(0.0, box.ends_at - world.at))

    def later(self, seconds: float, run: Run, act: Callable[[Run], None]) -> None:
        """Let an attempt do something later, as long as its actor carries it."""
        self.world.after(seconds, self._if_carried, run, act)

    def _if_carried(self, run: Run, act: Callable[[Run], None]) -> None:
        """Go on with an attempt, unless its actor is dead or has dropped it; a frozen one goes on later."""
        actor = run.actor
        if actor.run is not run or run.over:
            return
        if actor.frozen_until > self.world.at:
            self.later(actor.frozen_until - self.world.at + self.world.between(0.0, 0.2), run, act)
            return
        act(run)

    def _staged(self, run: Run) -> None:
        if run.stage != "staging" or run.stopped:
            return
        world = self.world
        fate = world.chance()
        if fate < 0.01:
            self._ends(run, IMAGE_ERROR)
            return
        run.stage = "running"
        if self.checkpoints is not None:
            self.checkpoints.begins(run)
        self._report(run, Status.RUNNING)
        seconds = world.between(20.0, 150.0) if world.chance() < 0.03 else world.around(2.5)
        if fate < 0.03:
            run.outcome = None
        elif fate > 0.99:
            run.outcome = PREEMPTED
        elif fate > 0.88:
            run.outcome = FAILED if fate < 0.95 else OUT_OF_MEMORY if fate < 0.97 else TIMED_OUT
        else:
            run.outcome = SUCCEEDED
        run.box = Box(run, world.at + seconds, run.outcome)
        run.actor.machine.boxes[run.task, run.attempt] = run.box
        if fate > 0.87 and seconds > 2.0:
            self.later(seconds / 2, run, self._stalls)
        self._goes_on(run, seconds)

    def _stalls(self, run: Run) -> None:
        if run.stage == "running":
            self._report(run, Stall(1))

    def _goes_on(self, run: Run, seconds: float) -> None:
        """Wait for the end of what runs; whatever was the matter with its actor, that comes at its time."""
        if self.promises.is_poison(run.task):
            self.world.after(seconds, self._poisoned, run)
        elif run.outcome is None:
            self.later(seconds, run, self._breaks)
        elif run.outcome is PREEMPTED:
            self.later(seconds, run, lambda run: self._ends(run, PREEMPTED))
        else:
            self.later(seconds, run, self._ran)

    def _poisoned(self, run: Run) -> None:
        if run.actor.run is run:
            self.kill(run.actor, noticed=self.world.between(0.0, 1.0))

    def _breaks(self, run: Run) -> None:
        """The supervisor dies: the attempt cannot be carried on, and nothing is reported."""
        if run.stage == "running":
            self._drops(run, Broken("SupervisorLost()"))

    def _ran(self, run: Run) -> None:
        if run.stage != "running":
            return
        run.stage = "finalizing"
        self._report(run, Status.FINALIZING)
        self.later(self.world.around(0.3), run, self._stores)

    def _stores(self, run: Run) -> None:
        """Store the outputs, and last the manifest, which can be created only once."""
        if run.stage != "finalizing":
            return
        world = self.world
        if self.storage_down_until > world.at:
            self.later(world.between(1.0, 20.0), run, self._stores)
            return
        assert run.outcome is not None
        stored = _CANCELLED_STORED if run.outcome is CANCELLED else _STORED[id(run.outcome)]
        key = (run.task, run.attempt)
        # An attempt that was handed over twice stores the same outputs again, below the same name.
        self.manifests.setdefault(key, (stored, world.steps))
        self.promises.committed(key, stored)
        world.note("actor", run.actor.name, "has stored", run.task, run.attempt, stored.status)
        self._ends(run, stored)

    def _gives_up(self, run: Run) -> None:
        if run.stage != "reporting":
            self._ends(run, CANCELLED)

    def _ends(self, run: Run, outcome: Outcome) -> None:
        run.stage = "reporting"
        self._report(run, outcome)

    def _drops(self, run: Run, left: Left) -> None:
        """The actor is done with an attempt, one way or the other."""
        actor = run.actor
        if actor.run is not run:
            return
        run.over = True
        actor.run, actor.others = None, ()
        if run.box is not None and run.box.carrier is run:
            actor.machine.boxes.pop((run.task, run.attempt), None)
        waits = [run.handed, *actor.watchers]
        actor.watchers.clear()
        # A watcher learns that it is over, and not why.
        for handed in waits:
            self._tell(handed, left if handed is run.handed else None)
        self._begin(actor)

    # Its reports.

    def tells(self, run: Run, news: News) -> None:
        """Report something that moves nothing."""
        self._report(run, news)

    def _report(self, run: Run, fact: Fact) -> None:
        run.unsent.append((fact, self.world.at))
        if run.sending:
            return
        if isinstance(fact, Outcome):
            self._send(run)
        else:
            self.later(GATHER, run, self._gathered)

    def _gathered(self, run: Run) -> None:
        if run.unsent and not run.sending:
            self._send(run)

    def _renew(self, run: Run) -> None:
        self.later(_EVERY, run, self._renew)
        if not run.sending:
            self._send(run)

    def _send(self, run: Run) -> None:
        """Offer all reports that have gathered, or the renewal of the lease, until somebody takes it."""
        world, faults = self.world, self.faults
        run.sending = True
        reports = tuple(Report(fact, world.at - since) for fact, since in run.unsent)
        chance = world.chance()
        if run.actor.machine.cut_until > world.at or chance < faults.report_lost:
            world.note("report lost", run.task, run.attempt, word(reports))
            self.later(_PATIENCE, run, self._again)
            return
        chance -= faults.report_lost
        if chance < faults.answer_lost:
            world.note("answer lost", run.task, run.attempt, word(reports))
            self.deliver(run, reports)
            self.later(_PATIENCE, run, self._again)
            return
        chance -= faults.answer_lost
        if chance < faults.report_late:
            world.after(world.between(0.5, 90.0), self.deliver, run, reports)
            self.later(_PATIENCE, run, self._again)
            return
        chance -= faults.report_late
        if chance < faults.report_doubled:
            world.after(world.between(0.0, 60.0), self.deliver, run, reports)
        verdict = self.deliver(run, reports)
        if verdict is None:
            self.later(world.between(0.2, 5.0), run, self._again)
        else:
            self._answered(run, reports, verdict)

    def _again(self, run: Run) -> None:
        self._send(run)

    def deliver(self, run: Run, reports: tuple[Report, ...]) -> Verdict | None:
        """Return what the dispatcher says to reports; None where it does not answer."""
        process = self.process
        if process is None or not process.alive:
            return None
        if run.actor.run is run:
            run.heard = self.world.at
        try:
            return process.report(run.task, run.attempt, reports)
        except Unavailable:
            return None

    def _answered(self, run: Run, reports: tuple[Report, ...], verdict: Verdict) -> None:
        if run.actor.run is not run or run.over:
            return
        run.sending = False
        world = self.world
        if verdict is Verdict.SUPERSEDED:
            world.note("actor", run.actor.name, "learns that", run.task, run.attempt, "is superseded")
            run.over = True
            world.after(world.between(0.01, 1.0), self._drops, run, None)
            return
        for report in reports:
            run.unsent.popleft()
            if isinstance(report.what, Outcome):
                self.promises.taken(run, report.what)
                run.over = True
                world.after(world.between(0.0, 0.2), self._drops, run, None)
        if run.unsent and not run.over:
            self._send(run)


def word(reports: tuple[Report, ...]) -> str:
    """Return reports as the world's notes have them."""
    facts = (report.what for report in reports)
    return ", ".join(str(fact.status if isinstance(fact, Outcome) else fact) for fact in facts) or "renewal"
