"""What happens to tasks when processes of a server are killed and frozen again and again?

    .venv/bin/python -m benchmarks.chaos [--tasks 2000] [--kills 60] [--seed 1]

A server as `simyard up` starts it, joined by a second machine: a raylet under another host name. Tasks of a second each
are submitted all the while, every fifth in podman where that works. A blow kills or freezes a process that is drawn by
the seed, or the whole head, once; the next one comes when its share of the tasks has ended and a task that was
submitted after the blow has succeeded. One JSON line:

- `lost`: accepted tasks that did not succeed, or whose output is not there or not that of the attempt which the server
  names; `invented`: tasks that nobody submitted;
- `doubled`: tasks with more than one accepted result in the store's events, or whose commands began twice under one
  attempt's number;
- `re_executed`: tasks whose commands began more than once. Each run says that it begins outside of its results: a
  native one in a file, a container through podman's own journal of starts; `unmarked` ones never said so;
- `recovery_*_s`: from a blow until a task that was submitted after it has succeeded, and every task that it struck has
  been taken over, begun anew or has ended; `calm_s` is what the same takes without a blow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from simyard.event import Event, EventKind
from simyard.resources import MIB
from simyard.status import Status
from tasks.store import Store, TaskQuery, open_store
from tests.running_server import RunningServer, running_server, those
from tests.services.second_machine import NAME, can_have_another_name, machines_of, start_second_machine

OUTSTANDING = 40
"""So many tasks are submitted ahead of those that have ended."""
IN_PODMAN = 5
"""Every so many-th task runs in podman."""
SHARES = {"dispatcher": 4, "replica": 3, "actor": 6, "container": 3, "raylet": 2, "fork server": 2}
"""How often a target is drawn, relative to the others."""
FROZEN = 4
"""Every so many-th blow freezes, where its target can be frozen."""
FREEZES = (2.0, 5.0, 10.0, 40.0)
"""Seconds; the longest is longer than the lease."""
PATIENCE = 300.0
"""Seconds after which the benchmark gives up on anything."""
_BOX = re.compile(r"simyard-(t[0-9a-z]{12})-(\d+)")
Box = tuple[str, int]


@dataclass
class Blow:
    """One process that was killed or frozen."""

    target: str
    how: str
    at: float
    struck: frozenset[str]
    """The tasks whose run or actor it was."""
    probe_s: float = 0.0
    """Seconds until a task that was submitted afterwards had succeeded."""
    recovery_s: float = 0.0


@dataclass
class Field:
    """The server under fire, and what has been seen of it."""

    server: RunningServer
    store: Store
    folder: Path
    chance: random.Random
    podman: bool
    accepted: dict[str, str] = field(default_factory=dict)
    """Task by idempotency key."""
    second: psutil.Process | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def go(self, act: Callable[..., None], *arguments: object) -> threading.Thread:
        """Let something go on beside, until it is done or all is stopped."""
        thread = threading.Thread(target=act, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def stop(self) -> None:
        """End what goes on beside."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)

    # Submitting.

    def submit(self, number: int, priority: int = 0) -> str:
        """Submit a task, until the server says that it has it, and return its id."""
        journal = self.folder / "journal"
        in_podman = self.podman and not priority and number % IN_PODMAN == 0
        mark = "" if in_podman else f"echo $SIMYARD_BOX >> {journal}; "
        spec = {
            "simulator": "swmm",
            "runtime": "podman" if in_podman else "native",
            "commands": [{"argv": ["sh", "-c", f"{mark}sleep 1; echo $SIMYARD_BOX > out.txt"]}],
            "inputs": self.inputs,
            "resources": {"cpus": 0.25, "memory": "128MiB"},
            "priority": priority,
            # A container that is killed from outside ends by a signal; nobody can tell that from a program's own end.
            "retries": 5,
            "retry": {"on": ["signal"]},
        }
        headers = {"Idempotency-Key": f"chaos-{number}"}
        task = self.insist(lambda http: http.post("/v1/tasks", json=spec, headers=headers))["id"]
        self.accepted[headers["Idempotency-Key"]] = task
        return str(task)

    def insist(self, ask: Callable[[httpx.Client], httpx.Response]) -> Any:
        """Return the answer to a request that is made again until the server takes it, as our client does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(httpx.TransportError):
                with httpx.Client(
                    base_url=self.server.url,
                    headers={"Authorization": f"Bearer {self.server.key}"},
                    timeout=15,
                    trust_env=False,
                ) as http:
                    answer = ask(http)
                if answer.is_success:
                    return answer.json()
                is_routeless = answer.status_code == 404 and "/-/routes" in answer.text
                if answer.status_code < 500 and answer.status_code != 429 and not is_routeless:
                    raise SystemExit(f"refused: {answer.text}")
            if time.monotonic() > deadline:
                raise SystemExit("the server takes nothing any more")
            time.sleep(0.2)

    def produce(self, numbers: range) -> None:
        """Submit these tasks, never many more than have ended."""
        for number in numbers:
            while len(self.accepted) - self.ended() > OUTSTANDING and not self.stopped.wait(0.3):
                pass
            if self.stopped.is_set():
                return
            self.submit(number)

    def ended(self) -> int:
        """Return how many tasks have ended."""
        counts = self.store.counts()
        return sum(count for status, count in counts.items() if status.is_end)

    def probe(self, number: int) -> float:
        """Return the seconds until a task that is submitted now, and goes first, has succeeded."""
        begun = time.monotonic()
        task = self.submit(number, priority=100)
        wait_for(lambda: self.store.get(task).status.is_end, f"the end of {task}")
        return time.monotonic() - begun

    # Blows.

    def targets(self) -> list[str]:
        """Return what can be struck here."""
        left_out = {"container": not self.podman, "raylet": self.second is None}
        return [name for name in SHARES if not left_out.get(name)]

    def victims(self, target: str) -> list[psutil.Process]:
        """Return the living processes of a target."""
        match target:
            case "dispatcher":
                return self.server.processes("ray::DispatcherActor")
            case "replica":
                return self.server.processes("ray::ServeReplica")
            case "actor":
                return [p for p in self.server.processes("ray::SimulatorActor") if boxes_of(p)]
            case "raylet":
                return [self.second] if self.second is not None and self.second.is_running() else []
            case "fork server":
                return self.server.fork_servers()
            case "container":
                return containers(set(self.accepted.values()))
            case _:
                head = self.chance.choice(["gcs_server", "raylet"])
                return those(self.server.processes(), lambda p: p.name() == head and p != self.second)

    def strike(self, target: str, *, freeze: bool) -> Blow | None:
        """Kill or freeze a process of a target; None where there is none now."""
        try:
            found = self.victims(target)
            if not found:
                return None
            victim = self.chance.choice(found)
            struck = {box[0] for process in (victim, *victim.children(recursive=True)) for box in boxes_of(process)}
            at = time.time()
            if not freeze:
                victim.kill()
                return Blow(target, "kill", at, frozenset(struck))
            victim.suspend()
        except psutil.NoSuchProcess:
            return None
        seconds = self.chance.choice(FREEZES)
        threading.Timer(seconds, lambda: thaw(victim)).start()
        return Blow(target, f"stop {seconds:g} s", at, frozenset(struck))

    def keep_second(self) -> None:
        """Keep a second machine: start it again when it has gone, as a machine's own service manager does."""
        while not self.stopped.wait(1.0):
            if self.second is not None and not is_there(self.second):
                with suppress(Exception):  # the head may be away; the next look tries again
                    self.second = start_second_machine(self.server, cpus=1, memory=256 * MIB)
                    say("the second machine is back")


def boxes_of(process: psutil.Process) -> set[Box]:
    """Return the attempts that an actor carries, by the folders that it has locked, or that a process is a run of."""
    found = set[Box]()
    with suppress(OSError, psutil.Error):
        for handle in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                path = str(handle.readlink())
                if path.endswith("/lock") and (match := _BOX.search(path)):
                    found.add((match[1], int(match[2])))
    with suppress(psutil.Error):
        mark = process.environ().get("SIMYARD_BOX", "")
        if match := _BOX.fullmatch(mark):
            found.add((match[1], int(match[2])))
    return found


def containers(tasks: set[str]) -> list[psutil.Process]:
    """Return the first processes of the tasks' containers that run."""
    done = subprocess.run(
        ["podman", "ps", "--format", "{{.Names}} {{.Pid}}"], capture_output=True, text=True, check=False, timeout=60
    )
    found = []
    for line in done.stdout.splitlines():
        name, pid = line.rsplit(" ", 1)
        if (match := _BOX.match(name)) and match[1] in tasks:
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
    return found


def is_there(process: psutil.Process) -> bool:
    """Say whether a process lives."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def thaw(process: psutil.Process) -> None:
    """Let a frozen process go on."""
    with suppress(psutil.NoSuchProcess):
        process.resume()


@contextmanager
def journal_of_starts(path: Path) -> Iterator[None]:
    """Write the names of all containers that podman starts meanwhile into a file, each with its id and the time."""
    with path.open("wb") as output:
        command = ["podman", "events", "--filter", "type=container", "--filter", "event=start"]
        command += ["--format", "{{.Name}} {{.ID}} {{.Time}}"]
        follower = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            follower.terminate()
            follower.wait(30)


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.1)


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def recovery(blow: Blow, events: dict[str, list[Event]]) -> float:
    """Return the seconds until all that a blow struck went on: the slowest of the probe and the struck tasks."""
    signs = [blow.probe_s]
    for task in blow.struck:
        later = [event for event in events.get(task, []) if event.at.timestamp() > blow.at]
        went_on = (
            event.at.timestamp() - blow.at
            for event in later
            if event.kind is EventKind.NOTE
            or (event.kind is EventKind.STATUS and event.status not in {Status.QUEUED, Status.PREPARING})
        )
        signs.append(next(went_on, 0.0))  # one that had ended before the blow came was not struck
    return max(signs)


def strike(chaos: Field, target: str, *, freeze: bool) -> Blow:
    """Strike a target, or the dispatcher where there is none of it for a minute."""
    deadline = time.monotonic() + 60.0
    while (blow := chaos.strike(target, freeze=freeze)) is None:
        if time.monotonic() > deadline:
            target, deadline = "dispatcher", deadline + PATIENCE
        time.sleep(0.1)
    return blow


def under_fire(chaos: Field, tasks: int, kills: int) -> tuple[list[Blow], list[float]]:
    """Submit all tasks and strike all blows; return them when every task has ended, and what a calm probe took."""
    if can_have_another_name():
        chaos.second = start_second_machine(chaos.server, cpus=1, memory=256 * MIB)
        wait_for(lambda: NAME in machines_of(chaos.server), "the second machine")
        chaos.go(chaos.keep_second)
        say("the second machine is there")
    calm = [chaos.probe(number) for number in range(3)]
    say(f"calm probes took {calm[0]:.1f}, {calm[1]:.1f} and {calm[2]:.1f} s")
    producer = chaos.go(chaos.produce, range(3 + kills, tasks))
    probes = iter(range(3, 3 + kills))
    names = chaos.targets()
    plan = chaos.chance.choices(names, [SHARES[name] for name in names], k=kills)
    if kills > 1:
        plan[kills // 2] = "head"
    blows = list[Blow]()
    for number, target in enumerate(plan, start=1):
        wait_for(lambda due=number * (tasks - kills) // (kills + 2): chaos.ended() >= due, "the next blow's turn")
        freeze = number % FROZEN == 0 and target in {"dispatcher", "replica", "actor"}
        blow = strike(chaos, target, freeze=freeze)
        blow.probe_s = chaos.probe(next(probes))
        blows.append(blow)
        say(f"{number}/{kills} {target} {blow.how}: {blow.probe_s:.1f} s; {chaos.ended()} of {tasks} have ended")
    wait_for(lambda: not producer.is_alive(), "the last submission", PATIENCE + tasks)
    say("waiting for the last tasks")
    wait_for(lambda: chaos.ended() >= tasks, "the end of all tasks", PATIENCE + tasks)
    return blows, calm


def beginnings(folder: Path) -> Counter[Box]:
    """Return how often the commands of each attempt began, from the runs' own marks."""
    marks, starts = (
        path.read_text().splitlines() if path.exists() else [] for path in (folder / "journal", folder / "starts")
    )
    # When its journal has a megabyte podman turns it over, and tells all that it holds once more.
    lines = [*marks, *set(starts)]
    return Counter((match[1], int(match[2])) for line in lines if (match := _BOX.match(line)))


def has_own_output(chaos: Field, task: str, result: int) -> bool:
    """Say whether a task's output is there and was made by the attempt that the server names."""
    with chaos.server.http() as http:
        answer = http.get(f"/v1/tasks/{task}/outputs/content", params={"path": "out.txt"})
    return answer.is_success and answer.text.strip() == f"simyard-{task}-{result}"


def judge(chaos: Field, blows: list[Blow]) -> dict[str, Any]:
    """Return what has become of the tasks."""
    records = {record.id: record for record in chaos.store.list(TaskQuery(limit=10**7))}
    events = dict[str, list[Event]]()
    after = 0
    while page := chaos.store.events(after=after, limit=1000):
        after = page[-1].seq
        for event in page:
            events.setdefault(event.task, []).append(event)
    good = [r for r in records.values() if r.status is Status.SUCCEEDED and r.task.result is not None]
    with ThreadPoolExecutor(4) as pool:
        has_own = pool.map(lambda record: has_own_output(chaos, record.id, record.task.result or 0), good)
        own = {record.id for record, has in zip(good, has_own, strict=True) if has}
    results = {
        task: sum(event.kind is EventKind.STATUS and event.status is Status.SUCCEEDED for event in told)
        for task, told in events.items()
    }
    accepted = set(chaos.accepted.values())
    # Podman's journal, told anew, also has what other programs started on this machine before.
    begun = Counter({box: count for box, count in beginnings(chaos.folder).items() if box[0] in accepted})
    runs = Counter(task for task, _ in begun.elements())
    lost = sorted(accepted - own)
    doubled = {task for task, count in results.items() if count > 1} | {box[0] for box, n in begun.items() if n > 1}
    again = sorted(task for task, count in runs.items() if count > 1)
    for word, tasks in (("lost", lost), ("doubled", sorted(doubled)), ("executed again", again)):
        for task in tasks:
            record = records.get(task)
            attempts = record.task.attempts if record else ()
            told = "; ".join(f"{a.machine}: {a.reason.message if a.reason else 'done'}" for a in attempts)
            say(f"{word}: {task} {record.status if record else 'unknown'} {told}")
    for blow in blows:
        blow.recovery_s = recovery(blow, events)
    return {
        "accepted": len(accepted),
        "succeeded": len(own),
        "lost": len(lost),
        "invented": len(set(records) - accepted),
        "doubled": len(doubled),
        "re_executed": len(again),
        "re_executed_percent": round(100 * len(again) / max(1, len(accepted)), 2),
        "unmarked": len(accepted - set(runs)),
        "adoptions": sum(attempt.adoptions for record in records.values() for attempt in record.task.attempts),
    }


def summary(blows: list[Blow]) -> dict[str, Any]:
    """Return how long recovery took, over all blows and by their targets."""
    by_target = dict[str, dict[str, Any]]()
    for target in sorted({blow.target for blow in blows}):
        mine = [blow for blow in blows if blow.target == target]
        by_target[target] = {
            "kill": sum(blow.how == "kill" for blow in mine),
            "stop": sum(blow.how != "kill" for blow in mine),
            "median_s": round(statistics.median(blow.recovery_s for blow in mine), 1),
            "worst_s": round(max(blow.recovery_s for blow in mine), 1),
        }
    times = [blow.recovery_s for blow in blows] or [0.0]
    return {
        "recovery_median_s": round(statistics.median(times), 1),
        "recovery_worst_s": round(max(times), 1),
        "targets": by_target,
    }


def works(server: RunningServer) -> bool:
    """Say whether tasks can run in podman here; its image is made where it is missing."""
    if shutil.which("podman") is None:
        return False
    done = server.simyard("images", "build", "swmm", "--engine", "podman", timeout=1200)
    if done.returncode != 0:
        say(f"without podman: {done.stderr.strip()}")
    return done.returncode == 0


def main() -> None:
    """Run it, and print one JSON line; ends with 1 where a task was lost, invented or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not 0 < options.kills <= options.tasks - 3:
        parser.error("there must be at least one blow, and at least three tasks more than blows")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        say(f"the server is ready at {server.url}")
        store = open_store(server.data_dir / "simyard.db")
        chaos = Field(server, store, Path(folder), random.Random(options.seed), works(server))
        chaos.inputs = [{"path": "in.txt", **server.put(b"input\n")}]
        begun = time.monotonic()
        try:
            with journal_of_starts(Path(folder) / "starts"):
                blows, calm = under_fire(chaos, options.tasks, options.kills)
            seconds = time.monotonic() - begun
            say("looking at what has become of the tasks")
            found = judge(chaos, blows)
            told = {
                "benchmark": "chaos",
                "tasks": options.tasks,
                "kills": options.kills,
                "seed": options.seed,
                **found,
                "calm_s": round(statistics.median(calm), 1),
                **summary(blows),
                "seconds": round(seconds),
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
            }
            print(json.dumps(told), flush=True)
        finally:
            chaos.stop()
            store.close()
    raise SystemExit(bool(found["lost"] or found["invented"] or found["doubled"]))


if __name__ == "__main__":
    main()
