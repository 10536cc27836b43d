"""What decides the result of a task, as a hash: two tasks with the same one compute the same."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from simulators import catalogue
from simulators.parameters import check_parameters
from simyard.simulator import Command
from simyard.task import TaskSpec

_FORM = 1
"""Another number makes all earlier results strangers."""
_HERE = Path(__file__).parent
_words = json.JSONEncoder(separators=(",", ":")).encode
_COMMANDS = TypeAdapter(tuple[Command, ...])


def fingerprint_of(spec: TaskSpec) -> str | None:
    """Return the hash of all that decides the result of an admitted task; None where that is not known beforehand.

    It is not where the task takes outputs of other tasks, or whatever cores a machine has that it wants for itself.

    That is the simulator as its folder has it now, the version and the runtime, the commands, the parameters that
    tables are read with, the input files with their paths and modes, and the cores and GPUs, of which the commands are
    told. Memory, disk, limits and checkpoints decide whether there is a result, and not which. The project is in it
    too: a result is not carried from one to another.
    """
    if spec.inputs_from or spec.resources.whole_machine:
        return None
    known = catalogue.find(spec.simulator).parameters
    files = spec.files
    parameters = check_parameters(known, spec.parameters, {one.path for one in files}, spec.simulator, complete=False)
    parts = [
        _FORM,
        simulator_digest(spec.simulator),
        spec.version,
        spec.runtime,
        spec.project,
        [spec.resources.cpus, spec.resources.gpus, *([spec.resources.machines] if spec.resources.machines > 1 else [])],
        sorted(parameters.items()),
        _COMMANDS.dump_python(spec.commands, mode="json"),
        sorted((one.path, one.sha256, one.mode) for one in files),
    ]
    return hashlib.sha256(_words(parts).encode()).hexdigest()


@cache
def simulator_digest(name: str, root: Path = _HERE) -> str:
    """Return the hash of a simulator's folder without its examples: pins, image, programs, and how tables are read."""
    folder = root / name
    parts: list[bytes] = []
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if file.is_file() and not inside.parts[0].startswith("example") and "__pycache__" not in inside.parts:
            parts += [inside.as_posix().encode(), file.read_bytes()]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()
