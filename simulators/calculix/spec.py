"""What CalculiX takes and gives."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from simulators.spec import Parameters, SimulatorSpec, TableSpec, VersionSpec, image_of
from simulators.suggestion import suggest
from simyard.errors import InvalidInput
from simyard.simulator import Command, Parameter, ParameterType

from . import tables

_HERE = Path(__file__).parent
_FIELD = "parameters.job"
_LONGEST = 100
"""Bytes of a job's name: CalculiX keeps 132 for it with every suffix that it adds."""


def _build(parameters: Parameters, inputs: Collection[str]) -> tuple[Command, ...]:
    job = str(parameters["job"]).removesuffix(".inp")
    name = PurePosixPath(job).name
    if f"{job}.inp" not in inputs:
        decks = [path.removesuffix(".inp") for path in inputs if path.endswith(".inp")]
        raise InvalidInput(f"there is no input file {job + '.inp'!r}.", field=_FIELD, fix=suggest(job, decks, "jobs"))
    if name != "".join(name.split()) or len(name.encode()) > _LONGEST:
        raise InvalidInput(
            f"CalculiX reads job names without blanks of at most {_LONGEST} bytes, not {name!r}.",
            field=_FIELD,
            fix="Rename the file.",
        )
    return (Command(argv=("ccx", "-i", job)),)


SPEC = SimulatorSpec(
    name="calculix",
    title="CalculiX",
    description="Finite elements for solids: static, dynamic, thermal and modal analyses of Abaqus-like input decks.",
    homepage="https://www.calculix.de",
    parameters=(
        Parameter(
            name="job",
            type=ParameterType.TEXT,
            required=True,
            description="The job: the input deck's path without .inp. It runs in the deck's own folder.",
        ),
    ),
    versions=(
        VersionSpec(
            version="2.20",
            programs={"ccx": _HERE / "run.py"},
            image=image_of(_HERE, "calculix", "2.20"),
        ),
    ),
    build=_build,
    tables={
        "displacements": TableSpec(
            description="Displacements in the .dat file: one row a node and moment.", parse=tables.displacements
        ),
        "stresses": TableSpec(
            description="Stresses in the .dat file: one row an integration point and moment, with von Mises' stress.",
            parse=tables.stresses,
        ),
        "forces": TableSpec(
            description="Forces in the .dat file: one row a node and moment, or a set's total where node is null.",
            parse=tables.forces,
        ),
    },
)
