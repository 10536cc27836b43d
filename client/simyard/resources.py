"""What a task needs of a machine, and the limits it must keep."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from simyard.words import Word

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"k": KIB, "m": MIB, "g": GIB, "t": 1024**4, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024**4}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: Any) -> Any:
    """Return bytes for a text such as `2GiB`, `500MB` or `1.5g`; anything but a text is returned as it is.

    Units: B, kB, MB, GB, TB in powers of 1000; KiB to TiB and single letters in powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{value!r} is not a size; write for example 2GiB or 500MB")
    return int(float(match[1]) * unit)


def parse_duration(value: Any) -> Any:
    """Return seconds for a text such as `90`, `30s`, `10m`, `2h` or `1d`; anything but a text is returned as it is.

    Raises:
        ValueError: the text is not a duration.
    """
    if isinstance(value, bool):
        raise ValueError("yes and no are not durations; write for example 90, 30s, 10m, 2h or 1d")  # noqa: TRY004
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write for example 90, 30s, 10m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
"""Bytes; a text with a unit is understood."""
_LONGEST = 100 * 365 * 86400.0
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=_LONGEST)]
"""Seconds, at most a hundred years; a text with a unit is understood."""


_DISK = 20 * GIB
"""What a folder may grow to when nothing is said: a limit, for which no room is kept."""


MOST_MACHINES = 256
"""On more machines than these no task can run."""


class Resources(Word):
    """What a task gets of a machine; the container runtime holds it to that."""

    cpus: float = Field(default=1.0, ge=0.01, le=4096)
    """Cores; a fraction lets short tasks share one."""
    memory: Annotated[int, BeforeValidator(parse_size), Field(ge=16 * MIB)] = 1 * GIB
    """Bytes of memory; more than this ends the task with the reason `out-of-memory`."""
    gpus: int = Field(default=0, ge=0, le=64)
    """GPUs, whole ones."""
    disk: Annotated[int, BeforeValidator(parse_size), Field(ge=1 * MIB)] = _DISK
    """Bytes that the working folder may grow to; more ends the task with the reason `disk-full`.

    Where another size than the default is asked for, that much of the machine's disk is reserved for it.
    """
    whole_machine: bool = False
    """Whether it is alone on a machine and gets all of its cores, memory and GPUs, whatever they are.

    While it runs, and afterwards, `cpus`, `memory` and `gpus` say what that machine has.
    """

    machines: int = Field(default=1, ge=1, le=MOST_MACHINES)
    """On how many machines of its group it runs at once; each gives it all that the other fields say."""

    @property
    def all_cpus(self) -> float:
        """The cores of all its machines together."""
        return self.cpus * self.machines

    @property
    def reserved_disk(self) -> int:
        """The bytes of a machine's disk that are kept for it."""
        return 0 if self.disk == _DISK else self.disk


class Limits(Word):
    """How long a task may take, in seconds; None means no limit."""

    queue: Duration | None = None
    """Time in the queue, counted anew each time that the task comes back to it and may start."""
    staging: Duration | None = None
    """Time in which an attempt brings inputs and environment to its machine."""
    run: Duration | None = None
    """Time for the commands themselves."""
    upload: Duration | None = None
    """Time in which an attempt stores its outputs; once it is over, they are given up."""
    stall: Duration | None = None
    """Time without output, neither printed nor written to a file of the task's folder, after which the task stalls."""
    end_stalled: bool = False
    """Whether a task that stalls is ended; otherwise there is an event, and it goes on."""

    @model_validator(mode="after")
    def _end_has_a_time(self) -> Limits:
        if self.end_stalled and self.stall is None:
            raise ValueError("`end_stalled` needs a time; give `stall` too")
        return self
