"""What OpenSeesPy takes and gives."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from simulators.spec import CheckpointSpec, Parameters, SimulatorSpec, TableSpec, VersionSpec, image_of
from simyard.simulator import Command, Parameter, ParameterType

from . import tables

_HERE = Path(__file__).parent
# The newest release whose library loads in Python 3.11, 3.12 and 3.13; 3.8 refuses 3.11, which Debian 12 has.
_REQUIREMENTS = ("openseespy==3.7.1.2", "openseespylinux==3.7.1.2")


def _build(parameters: Parameters, inputs: Collection[str]) -> tuple[Command, ...]:  # noqa: ARG001 - fits Builder
    return (Command(argv=("opensees", str(parameters["script"]))),)


SPEC = SimulatorSpec(
    name="openseespy",
    title="OpenSeesPy",
    description="The finite-element framework OpenSees for structural and earthquake engineering, driven from Python.",
    homepage="https://openseespydoc.readthedocs.io",
    parameters=(
        Parameter(
            name="script",
            type=ParameterType.FILE,
            required=True,
            description="The Python script that builds and analyses the model with openseespy.opensees.",
        ),
    ),
    versions=(
        VersionSpec(
            version="3.7.1.2",
            requirements=_REQUIREMENTS,
            programs={"opensees": _HERE / "run.py"},
            image=image_of(_HERE, "openseespy", "3.7.1.2", wheels=_REQUIREMENTS),
        ),
    ),
    build=_build,
    # A script that saves its state there goes on from it when it is run again.
    checkpoint=CheckpointSpec(files=("restart/**",)),
    tables={
        "values": TableSpec(
            description="One row a number in the CSV (*.csv) and recorder files (*.out): file, row, column and value.",
            parse=tables.values,
        ),
    },
)
