"""Carrying one attempt at a task from its inputs in storage to its outputs there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from simulators import catalogue
from simulators.checkpoints import Checkpoints
from simulators.companions import Companions
from simulators.errors import ImageError, Stopped, SupervisorLost
from simulators.execution import Execution, outcome_of
from simulators.outcome import Outcome
from simulators.patience import PATIENCE, patiently
from simulators.reports import Reports
from simulators.runtimes import Exit
from simulators.staging import bring_inputs
from simulators.work import News, NoSnapshot, Reporter, Superseded, Work
from simyard.checkpoint import Snapshot
from simyard.event import LogStream
from simyard.files import Staged
from simyard.reason import Reason, ReasonCode
from simyard.simulator import Command
from simyard.status import Status
from storage.errors import (
    DiskFull,
    InputDamaged,
    InputMissing,
    ObjectNotFound,
    OutputDamaged,
    StorageUnavailable,
    UnsafePath,
)
from storage.kept_inputs import KeptInputs
from storage.manifest import commit_manifest
from storage.objects import ObjectStore
from storage.outcomes import put_outcome, read_outcome
from storage.outputs import Stamps, store_outputs, take_stamps
from storage.snapshots import bring_snapshot, complete_snapshots
from storage.tables import write_table

log = logging.getLogger(__name__)
T = TypeVar("T")

CANCELLED_PATIENCE = 600.0
"""The same for the outputs of an attempt that was cancelled."""


class AttemptRun:
    """One attempt at a task on this machine; `kept` are the inputs that it keeps, where it keeps any."""

    def __init__(
        self,
        work: Work,
        execution: Execution,
        store: ObjectStore,
        reporter: Reporter,
        lease: float,
        kept: KeptInputs | None = None,
        companions: Companions | None = None,
    ) -> None:
        self.work = work
        self.execution = execution
        self._store = store
        self._kept = kept
        self._staged: Staged | None = None
        self._reports = Reports(work, reporter, lease, self._superseded)
        self._is_superseded = False
        self._is_adopted = False
        self._companions = companions
        """The other machines, where the task runs on several."""
        self._checkpoints: Checkpoints | None = None
        if work.checkpoint is not None:
            self._checkpoints = Checkpoints(
                work,
                work.checkpoint,
                store,
                folder=execution.folder,
                copy=execution.copies,
                confirm=self._reports.confirm,
                tell=self._reports.tell,
            )
        self._deadline = math.inf
        """When the step that goes on, staging or upload, has taken as long as its limit says."""

    def _superseded(self) -> None:
        self._is_superseded = True
        self.execution.stop()

    def cancel(self) -> None:
        """End the attempt in whatever phase it is; what it has made so far is kept."""
        self.execution.stop()

    @contextmanager
    def look(self) -> Iterator[Execution]:
        """Lend the execution to somebody who looks into it.

        Raises:
            Superseded: it was removed meanwhile, and what was seen may be a part; its outputs are stored.
        """
        try:
            yield self.execution
        finally:
            if self.execution.is_removed:
                raise Superseded(f"Attempt {self.work.attempt} of task {self.work.task} has been carried to its end.")

    def checkpoint(self, patience: float) -> Snapshot:
        """Return a snapshot of the restart files as they are now, within `patience` seconds.

        Raises:
            NoSnapshot: there is none, for a reason that it tells; the attempt goes on.
        """
        if self._checkpoints is None:
            raise NoSnapshot("The task has no restart files.", fix="Name them when you submit it: --checkpoint GLOB.")
        return self._checkpoints.take(patience)

    def take_last_snapshot(self, patience: float) -> None:
        """Keep the restart files, where there are some, before this process ends; takes at most `patience` seconds."""
        ends = time.monotonic() + patience
        # The head may be lost, and this machine with it: then nobody can say that the attempt is still the current one.
        if self._checkpoints is not None and not self._is_superseded:
            with suppress(NoSnapshot):
                self._checkpoints.take(patience, last=True)
        self._reports.flush(max(0.0, ends - time.monotonic()))

    def carry(self) -> None:
        """Carry the attempt to its end and report it.

        Raises:
            SupervisorLost: it could not be carried, for no fault of the simulation.
            Superseded: another attempt has taken over; nothing of this one was stored.
        """
        self._carry(self._outcome)

    def adopt(self) -> None:
        """Carry an attempt that another process had begun, with an execution that takes its run over, to its end.

        Raises:
            NotAdoptable: what it needs is not there.
            SupervisorLost: nobody knows how its commands ended.
            Superseded: another attempt has taken over; nothing of this one was stored.
        """
        self._is_adopted = True
        self._carry(self._adopted_outcome)

    def _carry(self, find_outcome: Callable[[], Outcome]) -> None:
        self._reports.start()
        try:
            outcome = find_outcome()
            if self._is_superseded:
                raise Superseded(f"Attempt {self.work.attempt} of task {self.work.task} has been superseded.")
            if outcome.stored:
                # Once its end is known the dispatcher may want this process's room, and kills it as it tidies up.
                self.execution.forbid_adoption()
            # They are this process's, and would be killed with it.
            self._close_companions()
            self._reports.end(outcome)
        finally:
            self._close_checkpoints()
            self._close_companions()
            self._reports.close()
            self.execution.remove()

    def _outcome(self) -> Outcome:
        work, execution = self.work, self.execution
        self._start_clock(work.limits.staging)
        try:
            if self._companions is not None:
                self._companions.start()
            before, commands = self._prepared()
            span = None if self._companions is None else self._companions.join(self._is_given_up, execution.stop)
            end = execution.run(
                commands,
                started=self._started,
                given_up=self._is_late,
                stalled=self._reports.stalled,
                span=span,
            )
            if self._companions is not None:
                end = self._companions.conclude(end, execution.folder, before)
        except (InputDamaged, InputMissing, StorageUnavailable) as error:
            return _failed(ReasonCode.INPUT_ERROR, str(error))
        except DiskFull as error:
            return _failed(ReasonCode.DISK_FULL, str(error))
        except ImageError as error:
            return _failed(ReasonCode.IMAGE_ERROR, str(error))
        except Stopped:
            if self._companions is not None:
                self._companions.check()
            if not execution.stop_requested:
                what = "Inputs and environment were not in place"
                return _timed_out("staging", work.limits.staging, f"{what} within {work.limits.staging:g} s.")
            reason = Reason(code=ReasonCode.CANCELLED_BY_USER, message="It was cancelled before its commands started.")
            return Outcome(status=Status.CANCELLED, reason=reason)
        except (OSError, SupervisorLost) as error:
            if not execution.has_no_disk:
                raise
            return _failed(ReasonCode.DISK_FULL, f"The machine's disk is full: {error}")
        return self._concluded(end, before)

    def _adopted_outcome(self) -> Outcome:
        before = self.execution.before()
        end = self.execution.resume(started=self._started, stalled=self._reports.stalled)
        return self._concluded(end, before)

    def _started(self) -> None:
        self._reports.moved(Status.RUNNING)
        if self._checkpoints is not None:
            self._checkpoints.start()

    def _close_companions(self) -> None:
        if self._companions is not None:
            self._companions.close()

    def _close_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()

    def _concluded(self, end: Exit, before: Stamps) -> Outcome:
        self._close_checkpoints()
        self._reports.moved(Status.FINALIZING)
        outcome = outcome_of(end, self.work.resources, self.work.limits).model_copy(update={"staged": self._staged})
        if outcome.status in {Status.FAILED, Status.TIMED_OUT}:
            tails = {f"{stream}_tail": self.execution.log_tail(stream) for stream in LogStream}
            outcome = outcome.model_copy(update=tails)
        return self._stored(outcome, before)

    def _start_clock(self, limit: float | None) -> None:
        self._deadline = math.inf if limit is None else time.monotonic() + limit

    def _is_late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _stage(self) -> None:
        work, folder = self.work, self.execution.folder
        self._staged = bring_inputs(self._store, work, folder, self._kept, self._is_given_up)

    def _prepared(self) -> tuple[Stamps, tuple[Command, ...]]:
        """Fill the task's folder; return what it held before any snapshot, and the commands that go on from there."""
        work = self.work
        self._stage()
        before = self._begun()
        if work.checkpoint is None or work.attempt == 1:
            return before, work.commands
        found = self._patiently(lambda: complete_snapshots(self._store, work.task), PATIENCE, self._is_given_up)
        for which in found:
            try:
                snapshot = self._patiently(partial(self._bring, which), PATIENCE, self._is_given_up)
            except (ObjectNotFound, OutputDamaged, UnsafePath) as error:
                told = f"Snapshot {which[1]} of attempt {which[0]} cannot be read: {error}"
                self._reports.tell(News(message=told[:1000]))
                # Parts of it may be there already.
                self.execution.empty()
                self._stage()
                before = self._begun()
                continue
            told = f"It goes on from snapshot {snapshot.number} of attempt {snapshot.attempt}."
            self._reports.tell(News(message=told, resumed_from=snapshot))
            return before, work.checkpoint.resume or work.commands
        self._reports.tell(News(message="It begins with the inputs alone: there is no snapshot that can be read."))
        return before, work.commands

    def _begun(self) -> Stamps:
        """Return what the task's folder holds now, before the commands."""
        # What runs on several machines ends on the others with this process, and nobody can take it over.
        return take_stamps(self.execution.folder) if self.work.others else self.execution.allow_adoption()

    def _bring(self, which: tuple[int, int]) -> Snapshot:
        return bring_snapshot(self._store, self.work.task, which, self.execution.folder, stopped=self._is_given_up)

    def _is_given_up(self) -> bool:
        return self.execution.stop_requested or self._is_late()

    def _stored(self, outcome: Outcome, before: Stamps) -> Outcome:
        """Store outputs, tables and last the manifest; the network's troubles are waited out."""
        # What a cancelled run has made is kept. A cancel that comes later gives up what is being stored.
        was_stopped = self.execution.stop_requested
        self._start_clock(self.work.limits.upload)

        def cancelled() -> bool:
            return self._is_superseded or (self.execution.stop_requested and not was_stopped)

        def given_up() -> bool:
            return cancelled() or self._is_late()

        try:
            patience = CANCELLED_PATIENCE if was_stopped else PATIENCE
            return self._patiently(lambda: self._store_once(outcome, before, given_up), patience, given_up)
        except StorageUnavailable as error:
            if outcome.status is Status.CANCELLED:
                return outcome
            return _failed(ReasonCode.OUTPUT_ERROR, str(error))
        except Stopped:
            if not cancelled():
                return self._without_outputs(outcome)
            reason = Reason(code=ReasonCode.CANCELLED_BY_USER, message="It was cancelled while storing outputs.")
            return Outcome(status=Status.CANCELLED, reason=reason)

    def _without_outputs(self, outcome: Outcome) -> Outcome:
        """Return how the attempt ended whose outputs were not stored in time: as before, but no longer by success."""
        with suppress(StorageUnavailable):
            # All may have been stored, and only the storage's answer was late.
            if (stored := read_outcome(self._store, self.work.task, self.work.attempt)) is not None:
                return Outcome.model_validate_json(stored)
        if outcome.status is not Status.SUCCEEDED:
            return outcome
        limit = self.work.limits.upload
        late = _timed_out("upload", limit, f"The outputs were not stored within {limit:g} s, and there is no result.")
        return outcome.model_copy(update={"status": late.status, "reason": late.reason})

    def _patiently(self, action: Callable[[], T], patience: float, given_up: Callable[[], bool]) -> T:
        """Return what the action returns, as `patience.patiently` does."""
        return patiently(action, patience, given_up, self.work.box)

    def _store_once(self, outcome: Outcome, before: Stamps, given_up: Callable[[], bool]) -> Outcome:
        work, execution = self.work, self.execution
        # Who had begun the attempt may have died between storing its result and reporting it.
        if self._is_adopted and (stored := read_outcome(self._store, work.task, work.attempt)) is not None:
            return Outcome.model_validate_json(stored)
        entries = store_outputs(
            self._store,
            work.task,
            work.attempt,
            execution.folder,
            before,
            logs={f"{stream}.log": execution.log(stream) for stream in LogStream}
            | {"samples.jsonl": execution.control / "samples.jsonl"},
            stopped=given_up,
        )
        # A process that was frozen for longer than its lease must not touch what another attempt may have written.
        self._reports.confirm(given_up)
        tables, notes = catalogue.tables(catalogue.find(work.simulator), execution.folder, work.parameters)
        for name, table in tables.items():
            write_table(self._store, name, table, simulator=work.simulator, project=work.project, task=work.task)
        size = sum(entry.length for entry in entries)
        done = outcome.model_copy(update={"stored": True, "output_bytes": size, "notes": tuple(notes)})
        self._reports.confirm(given_up)
        # The outcome stands beside the manifest: when this process dies before its report arrives, the dispatcher
        # still finds how the attempt ended and does not repeat it.
        put_outcome(self._store, work.task, work.attempt, done.model_dump_json().encode())
        commit_manifest(self._store, work.task, work.attempt, entries)
        return done


def _timed_out(which: str, seconds: float | None, message: str) -> Outcome:
    reason = Reason(code=ReasonCode.TIME_LIMIT, message=message, evidence={"limit": which, "seconds": seconds})
    return Outcome(status=Status.TIMED_OUT, reason=reason)


def _failed(code: ReasonCode, message: str) -> Outcome:
    return Outcome(status=Status.FAILED, reason=Reason(code=code, message=message[:4000]))
