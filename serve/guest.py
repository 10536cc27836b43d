"""This machine as a member of somebody's server, for as long as its owner lends it: `simyard join`."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cluster.disk import task_disk
from cluster.head import server_processes, stop_head
from cluster.member import Member, MemberPlan, answers
from cluster.server_mark import MARK, mark_of, temp_dir
from serve.invitation import Loan, ask, check_head, check_storage
from serve.membership import Membership
from simulators.scratch import sweep
from simyard.errors import Conflict, Unavailable
from storage.settings import KEPT_INPUTS, PREFIX

_TICK = 0.5
_LOOK_SECONDS = 10.0
"""How often it is looked whether Ray's head still answers."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between two tries to join again, the last one again and again."""
_HASTE_SECONDS = 10.0
"""How long they may take for it when the owner has lost patience."""
_LEAVE_SECONDS = 30.0
"""How long runs may take to save their restart files when they are given back."""


class Stopping:
    """What the owner wants by signals: the first asks the machine to leave, the second to leave at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = threading.Event()

    @contextmanager
    def by_signals(self) -> Iterator[None]:
        """Heed SIGINT, SIGTERM and SIGHUP meanwhile."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, self._heed) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _heed(self, *_: object) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


def lend(loan: Loan, say: Callable[[str], None], stopping: Stopping) -> None:
    """Be a machine of the server until the owner wants it back; nothing of it is left here then.

    Raises:
        SimyardError: the server does not take the machine; or it did, and does not any more.
    """
    # What was killed here a moment ago is still listed.
    told = ask(loan, rejoins=end_abandoned(loan.folder))
    check_storage(told)
    check_head(told.head, loan.url)
    mark = mark_of(told.server, loan.name)
    folder = loan.folder / mark
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(folder / "lock", timeout=0):
            _Guest(loan, told, folder, say, stopping).stay()
    except Timeout:
        fix = "Stop the other `simyard join`, or give another name with --name."
        raise Conflict(f"This machine is lent as {loan.name} already.", field="--name", fix=fix) from None


def end_abandoned(folder: Path) -> bool:
    """End what loans have left here whose command was killed; says whether there was any."""
    found = False
    for lock in folder.glob("*/lock"):
        with suppress(Timeout), FileLock(lock, timeout=0):
            mark = lock.parent.name
            found = bool(server_processes(mark)) or found
            _clear(mark, lock.parent)
    return found


def _clear(mark: str, folder: Path) -> None:
    stop_head(mark)
    sweep(folder / "scratch", current=())
    shutil.rmtree(folder / KEPT_INPUTS, ignore_errors=True)
    shutil.rmtree(temp_dir(mark), ignore_errors=True)


class _Guest:
    """The machine while it is lent."""

    def __init__(
        self, loan: Loan, told: Membership, folder: Path, say: Callable[[str], None], stopping: Stopping
    ) -> None:
        self._loan, self._told, self._folder = loan, told, folder
        self._say, self._stopping = say, stopping
        self._mark = mark_of(told.server, loan.name)
        self._scratch = folder / "scratch"
        self._member: Member | None = None
        self._is_alone = False
        """Whether the server did not answer when it was asked last."""

    def stay(self) -> None:
        """Join, join again whenever that is needed, and leave when it is asked for."""
        self._clear()
        try:
            self._stay()
        finally:
            self._leave()
            self._clear()

    def _stay(self) -> None:
        tries, looked = 0, time.monotonic()
        while not self._stopping.asked.is_set():
            pause = _TICK
            if self._member is not None and self._member.is_alive():
                if time.monotonic() - looked >= _LOOK_SECONDS:
                    looked = time.monotonic()
                    if answers(self._told.head):
                        tries = 0
                    elif self._has_moved():
                        self._start()
            else:
                if self._member is None or self._renewed():
                    self._start()
                pause, tries = _PAUSES[min(tries, len(_PAUSES) - 1)], tries + 1
            self._stopping.asked.wait(pause)

    def _has_moved(self) -> bool:
        """Say whether the server has another Ray than the one that is joined."""
        before = self._told.head
        return self._renewed() and self._told.head != before

    def _renewed(self) -> bool:
        """Ask the server anew what to join; says whether it can be told at present.

        Raises:
            SimyardError: this machine is not wanted any more.
        """
        try:
            self._told = ask(self._loan, rejoins=True)
        except Unavailable as error:
            if not self._is_alone:
                self._say(f"{error.reason} It is asked again; runs go on.")
            self._is_alone = True
            return False
        self._is_alone = False
        return True

    def _start(self) -> None:
        loan, folder = self._loan, Path(temp_dir(self._mark))
        if self._member is not None:
            self._member.stop()
        folder.mkdir(mode=0o700, exist_ok=True)
        environment = self._told.environment | {
            MARK: self._mark,
            PREFIX + "DATA_DIR": str(self._folder),
            PREFIX + "STORAGE": self._told.storage,
        }
        plan = MemberPlan(
            head=self._told.head,
            group=loan.group,
            cpus=loan.cpus,
            memory=loan.memory,
            disk=task_disk(self._scratch, self._folder / KEPT_INPUTS),
            name=loan.name,
            temp_dir=str(folder),
        )
        self._member = Member(plan, environment)
        self._say(f"joining {loan.url} as machine {loan.name} of group {loan.group}")
        self._member.start()

    def _leave(self) -> None:
        """Take no more tasks, give the runs their time, and have the rest saved and given back."""
        member, stopping = self._member, self._stopping
        if member is None or not member.is_alive():
            return
        member.drain(self._loan.grace + _LEAVE_SECONDS)
        if self._runs() and not stopping.at_once.is_set():
            self._say(
                f"leaving: no more tasks; {self._runs()} have {self._loan.grace:.0f} s to end, and are given back then."
                " Ctrl-C again ends them now."
            )
        self._wait(self._loan.grace, lambda: not self._runs())
        if member.is_alive() and not stopping.at_once.is_set():
            member.leave(_LEAVE_SECONDS)
            self._wait(_LEAVE_SECONDS, lambda: not member.is_alive())
        if member.is_alive():
            # In haste, too, what runs is given back and not lost; on a busy machine that takes seconds.
            member.save(_HASTE_SECONDS)

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Return when it is done, the time is over, or the owner has lost patience."""
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline and not self._stopping.at_once.wait(_TICK):
            pass

    def _runs(self) -> int:
        """Return how many runs there are; what a process has left that was ended as it tidied up is none."""
        sweep(self._scratch)
        return sum(path.is_dir() for path in self._scratch.iterdir()) if self._scratch.is_dir() else 0

    def _clear(self) -> None:
        """End everything of this loan, also what an earlier one that was killed has left."""
        if self._member is not None:
            self._member.stop()
            self._member = None
        _clear(self._mark, self._folder)


def forget_settings() -> None:
    """Take this machine's own settings of Simyard and Ray out of the environment: the server's count."""
    for name in [name for name in os.environ if name.startswith((PREFIX, "RAY_"))]:
        del os.environ[name]
