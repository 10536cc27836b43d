"""What EPA SWMM takes and gives."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from simulators.spec import Parameters, SimulatorSpec, TableSpec, VersionSpec, image_of
from simyard.simulator import Command, Parameter, ParameterType

from . import tables

_HERE = Path(__file__).parent
_REQUIREMENTS = ("swmm-toolkit==0.17.0", "aenum==3.1.17")


def _build(parameters: Parameters, inputs: Collection[str]) -> tuple[Command, ...]:  # noqa: ARG001 - fits Builder
    return (Command(argv=("runswmm", str(parameters["input_file"]))),)


SPEC = SimulatorSpec(
    name="swmm",
    title="EPA SWMM",
    description="Storm Water Management Model: runoff from rain, and its flow through sewers and channels.",
    homepage="https://www.epa.gov/water-research/storm-water-management-model-swmm",
    parameters=(
        Parameter(
            name="input_file",
            type=ParameterType.FILE,
            required=True,
            description="The SWMM input file (.inp); the report (.rpt) and the results (.out) are written beside it.",
        ),
    ),
    versions=(
        VersionSpec(
            version="5.2.4",
            requirements=_REQUIREMENTS,
            programs={"runswmm": _HERE / "run.py"},
            image=image_of(_HERE, "swmm", "5.2.4", wheels=_REQUIREMENTS),
        ),
    ),
    build=_build,
    tables={
        "summary": TableSpec(
            description="One row: continuity errors in percent, the peak of all outfalls together, and when it was.",
            parse=tables.summary,
        ),
        "outfalls": TableSpec(
            description="One row an outfall: share of time with flow, average and greatest flow, total volume.",
            parse=tables.outfalls,
        ),
        "nodes": TableSpec(description="Results of every node at every report step.", parse=tables.nodes),
        "links": TableSpec(description="Results of every link at every report step.", parse=tables.links),
        "subcatchments": TableSpec(
            description="Results of every subcatchment at every report step.", parse=tables.subcatchments
        ),
        "system": TableSpec(description="Results of the whole system at every report step.", parse=tables.system),
    },
)
