"""Why a task ended or waits, in a form that programs branch on and people read."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from simyard.words import Word


class ReasonCode(StrEnum):
    """The machine-readable part of a reason."""

    EXIT_CODE = "exit-code"
    """A command of the simulator ended with an exit code other than 0."""
    SIGNAL = "signal"
    """A command was ended by a signal that Simyard did not send."""
    OUT_OF_MEMORY = "out-of-memory"
    """The simulation needed more memory than the task asked for."""
    DISK_FULL = "disk-full"
    """The simulation wrote more than the task's disk, or the machine's disk is full."""
    TIME_LIMIT = "time-limit"
    """A limit of queue, staging, run or upload time was reached."""
    CANCELLED_BY_USER = "cancelled-by-user"
    """Somebody cancelled the task."""
    PREEMPTED = "preempted"
    """The machine was taken back by its cloud or set aside, or its server was stopped."""
    MACHINE_LOST = "machine-lost"
    """The machine, or our process on it, went away."""
    IMAGE_ERROR = "image-error"
    """The simulator's image or environment could not be made ready."""
    INPUT_ERROR = "input-error"
    """An input file could not be brought to the machine, or is not what it should be."""
    OUTPUT_ERROR = "output-error"
    """The outputs could not be stored."""
    DEPENDENCY_FAILED = "dependency-failed"
    """A task that this one waits for did not succeed."""
    INTERNAL = "internal"
    """A defect of Simyard."""
    NO_MACHINE_YET = "no-machine-yet"
    """The group's machines are not there yet."""
    GROUP_FULL = "group-full"
    """All places in the group are taken."""
    HELD = "held"
    """Somebody holds the task; it starts once it is released."""
    PAUSED = "paused"
    """The task's project or its machine group is paused."""
    QUOTA = "quota"
    """A quota of the user or the project is reached."""
    NO_SUCH_CAPACITY = "no-such-capacity"
    """No machine of the group is large enough."""
    LAUNCH_FAILED = "launch-failed"
    """The provider refused to start a machine."""


class Reason(Word):
    """A reason code with a sentence for people and the evidence behind it."""

    code: ReasonCode
    message: str = Field(max_length=4000)
    """One sentence: what happened, and where it helps, what to do next."""
    evidence: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """What was observed: exit code, signal, peak memory in bytes, the limit and so on."""
