"""What is free on machines, as columns of a table that fits a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simyard.cli.show import say_table
from simyard.cli.text import part

if TYPE_CHECKING:
    from simyard.group import Machine

FREE = ("CPUS FREE", "MEMORY FREE", "DISK FREE", "GPUS FREE")


def free_of(machine: Machine) -> tuple[str, ...]:
    """Return what is free of a machine, in the order of `FREE`; nothing for what it does not have, or has not said."""
    disk = "" if machine.disk is None or machine.disk_free is None else part(machine.disk_free, machine.disk)
    return (
        f"{machine.cpus_free:g}/{machine.cpus:g}",
        part(machine.memory_free, machine.memory),
        disk,
        f"{machine.gpus_free}/{machine.gpus}" if machine.gpus else "",
    )


def say_machines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print machines with `heads` and what is free; what no machine has gets no column."""
    shown = [i for i in range(len(FREE)) if any(row[len(heads) + i] for row in rows)]
    kept = [*range(len(heads)), *(len(heads) + i for i in shown)]
    numbers = range(len(heads), len(kept))
    # The group keeps its name; the machine's is cut where the terminal is too narrow.
    fixed = [i for i in range(len(kept)) if heads[i : i + 1] != ("MACHINE",)]
    say_table(
        [*heads, *(FREE[i] for i in shown)], [[row[i] for i in kept] for row in rows], fixed=fixed, right=list(numbers)
    )
