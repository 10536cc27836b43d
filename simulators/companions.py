"""The other machines of a task over several, as the one sees them that carries its attempt."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simulators.companion import CLOSE_SECONDS, OPEN_SECONDS, Companion, own_address
from simulators.errors import MachineLost, Stopped
from simulators.execution import Execution
from simulators.runtimes import Exit
from simulators.span import Call, Calls, Span, name_of
from simulators.work import Work
from storage.errors import DiskFull
from storage.folder import Folder
from storage.stamps import Stamps

log = logging.getLogger(__name__)

_TICK = 0.2
_FOLLOW_SECONDS = 2.0
_CALL_SECONDS = 60.0
_FAILED = 255
"""The exit status of the launch agent where a command could not be started, as ssh has it."""


class Companions:
    """Starts, watches and ends an attempt's companions, and takes the calls of the launch agent to them.

    They are actors of the process that makes this: when that dies, Ray ends them, and their containers end since
    nobody watches them any more.
    """

    def __init__(self, work: Work, execution: Execution) -> None:
        self._work, self._execution = work, execution
        self._actors: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._trouble: Exit | Exception | None = None
        """Why the attempt cannot go on, as the first of the companions said it."""
        self._is_over = threading.Event()
        self._has_joined = False

    def start(self) -> None:
        """Start an actor on each of the other machines; returns at once."""
        need = self._work.resources
        for number, place in enumerate(self._work.others, 1):
            self._actors[name_of(number)] = Companion.options(
                num_cpus=need.cpus,
                num_gpus=need.gpus,
                memory=need.memory,
                scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
            ).remote(self._work, number)

    def join(self, given_up: Callable[[], bool], end: Callable[[], None]) -> Span:
        """Return what containers need of each other, once those of the others are open; `end` is called when one ends.

        Raises:
            MachineLost: one of the machines has gone.
            Stopped: it was given up.
            SimyardError: the inputs or the image could not be brought to one.
        """
        actors = self._actors
        # There is room for all: whoever takes longer than this has lost it to somebody else.
        found = self._all([one.address.remote() for one in actors.values()], given_up, OPEN_SECONDS)
        self._has_joined = True
        addresses = {name_of(0): own_address()} | dict(zip(actors, found, strict=True))
        names = (socket.gethostname(), *(place.name for place in self._work.others))
        hosts = dict(zip(names, addresses.values(), strict=True))
        self._all([one.begin.remote(addresses, hosts) for one in actors.values()], given_up)
        span = self._execution.span(addresses, hosts)
        for name, actor in actors.items():
            self._go(self._watch, name, actor, end)
        self._go(self._relay, Calls(span.folder))
        return span

    def conclude(self, end: Exit, folder: Path, before: Stamps) -> Exit:
        """Return how the commands ended, with the files of the other machines in the task's folder.

        What was made or changed only there is taken, links excepted; of the machines the first one's file is kept.

        Raises:
            MachineLost: one of the machines has gone.
            DiskFull: there is no room for the files.
        """
        self._is_over.set()
        self.check()
        own = {found.path for found in Folder(folder).walk() if not before.has(found)}
        size = 0
        listed = self._all([one.close.remote() for one in self._actors.values()], _never, 2 * CLOSE_SECONDS)
        for actor, files in zip(self._actors.values(), listed, strict=True):
            for path, length in files:
                if path in own:
                    continue
                size += length
                if size > self._work.resources.disk:
                    raise DiskFull("The files of its other machines are more than its disk. Raise --disk.")
                own.add(path)
                self._bring(actor, path, folder)
        return self._trouble if isinstance(self._trouble, Exit) else end

    def check(self) -> None:
        """Return where no machine has gone.

        Raises:
            MachineLost: one has.
        """
        with self._lock:
            if isinstance(self._trouble, Exception):
                raise self._trouble

    def close(self) -> None:
        """End the companions, and leave nothing of them on their machines."""
        self._is_over.set()
        # One that never came has left nothing.
        calls = [one.remove.remote() for one in self._actors.values()] if self._has_joined else []
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=2 * CLOSE_SECONDS)
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()

    def _bring(self, actor: Any, path: str, folder: Path) -> None:
        data, mode = self._ask(actor.read.remote(path, 0))

        def pieces() -> Iterator[bytes]:
            piece, offset = data, 0
            while piece:
                yield piece
                offset += len(piece)
                piece, _ = self._ask(actor.read.remote(path, offset))

        Folder(folder).write(path, pieces(), mode=mode)

    def _watch(self, name: str, actor: Any, end: Callable[[], None]) -> None:
        """Take note of a companion's end before the attempt's, which is then the attempt's too."""
        call = actor.watch.remote()
        found: Exit | Exception
        while True:
            try:
                ended: Exit = ray.get(call)
                found = replace(ended, message=f"On {self._machine(name)}: {ended.message or ended.why}.")
                if ended.why not in {"out-of-memory", "disk-full"}:
                    found = self._lost(name, RuntimeError(f"its container ended: {ended.message or ended.why}"))
            except ActorUnavailableError:
                # It may only be cut off for a moment; Ray tells when it has gone.
                if self._is_over.wait(_TICK):
                    return
                call = actor.watch.remote()
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody watches that machine any more
                found = self._lost(name, error)
            break
        if self._is_over.is_set():
            return
        with self._lock:
            self._trouble = self._trouble or found
        end()

    def _relay(self, calls: Calls) -> None:
        """Take the launch agent's calls to their machines, until the attempt is over."""
        while not self._is_over.wait(_TICK):
            with suppress(OSError):  # the folder goes with the run
                for call in calls.take():
                    self._go(self._carry_out, calls, call)

    def _carry_out(self, calls: Calls, call: Call) -> None:
        actor, number = self._actors.get(call.machine), 0
        try:
            if actor is None:
                known = ", ".join(self._actors)
                calls.answer(
                    call, 0, b"", f"launch: no machine {call.machine!r}; there are {known}\n".encode(), _FAILED
                )
                return
            ray.get(actor.launch.remote(call.name, call.script), timeout=_CALL_SECONDS)
            while not self._is_over.is_set():
                asked = actor.follow.remote(call.name, _FOLLOW_SECONDS)
                piece = ray.get(asked, timeout=_CALL_SECONDS)
                if piece.out or piece.err or piece.status is not None:
                    calls.answer(call, number, piece.out, piece.err, piece.status)
                    number += 1
                if piece.status is not None:
                    return
        except RayError as error:
            told = f"launch: {self._machine(call.machine)} does not answer: {error}\n"
            with suppress(OSError):
                calls.answer(call, number, b"", told.encode(), _FAILED)
        except OSError as error:
            log.warning("a command of %s on %s is not followed: %s", self._work.box, call.machine, error)

    def _all(self, calls: Sequence[Any], given_up: Callable[[], bool], seconds: float | None = None) -> list[Any]:
        """Return the answers of the companions."""
        left, ends = list(calls), None if seconds is None else time.monotonic() + seconds
        while left:
            done, left = ray.wait(left, num_returns=len(left), timeout=_TICK)
            for call in done:
                self._ask(call)
            if given_up():
                raise Stopped
            if left and ends is not None and time.monotonic() >= ends:
                name = list(self._actors)[calls.index(left[0])]
                raise MachineLost(f"{self._machine(name)} did not answer within {seconds:g} s.")
        return [self._ask(call) for call in calls]

    def _ask(self, call: Any) -> Any:
        try:
            return ray.get(call, timeout=_CALL_SECONDS)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, Exception) else MachineLost(str(error))) from None
        except (RayError, GetTimeoutError) as error:
            raise MachineLost(f"A machine of the task has gone: {error}") from None

    def _lost(self, name: str, error: Exception) -> Exception:
        machine = self._machine(name)
        return MachineLost(f"{machine}, on which the task runs too, has gone: {error}"[:1000], machine=machine)

    def _machine(self, name: str) -> str:
        """Return what people call a machine."""
        names = {name_of(number): place.name for number, place in enumerate(self._work.others, 1)}
        return names.get(name, name)

    def _go(self, target: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, name=target.__name__, daemon=True).start()


def _never() -> bool:
    return False
