"""What LAMMPS takes and gives."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from simulators.spec import Parameters, SimulatorSpec, TableSpec, VersionSpec, image_of
from simyard.simulator import Command, Parameter, ParameterType

from . import tables

_HERE = Path(__file__).parent


def _build(parameters: Parameters, inputs: Collection[str]) -> tuple[Command, ...]:  # noqa: ARG001 - fits Builder
    ranks = int(parameters["ranks"])
    program = ("lmp", "-in", str(parameters["script"]), "-log", tables.LOG)
    return (Command(argv=program if ranks == 1 else ("mpirun", "-n", str(ranks), *program)),)


SPEC = SimulatorSpec(
    name="lammps",
    title="LAMMPS",
    description="Molecular dynamics of atoms and particles, in parallel by MPI, also across machines.",
    homepage="https://www.lammps.org",
    parameters=(
        Parameter(
            name="script",
            type=ParameterType.FILE,
            required=True,
            description="The input script. It runs in the task's folder.",
        ),
        Parameter(
            name="ranks",
            type=ParameterType.INTEGER,
            default=1,
            minimum=1,
            description="MPI ranks: at most the cores of all machines of the task together.",
        ),
    ),
    versions=(VersionSpec(version="2022.01.06", image=image_of(_HERE, "lammps", "2022.01.06")),),
    build=_build,
    tables={
        "thermo": TableSpec(
            description="Thermodynamic output in the log: one row a run, step and quantity.", parse=tables.thermo
        ),
    },
)
