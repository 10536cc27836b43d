"""The catalogue of simulators as the API shows it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from serve.auth import User
from serve.problems import PROBLEMS
from serve.streams import json_answer
from simulators import catalogue
from simyard.simulator import SimulatorInfo
from simyard.words import Word

router = APIRouter(tags=["simulators"])


class Simulators(Word):
    """All simulators by name."""

    simulators: tuple[SimulatorInfo, ...]


# Importing the catalogue's folders is file work, so these two run in threads.
@router.get("/v1/simulators", summary="List simulators", response_model=Simulators, responses=PROBLEMS)
def list_simulators(_user: User) -> Response:
    """Return every simulator with its versions, parameters and tables."""
    return json_answer(Simulators(simulators=tuple(catalogue.info(spec) for spec in catalogue.all_simulators())))


@router.get("/v1/simulators/{name}", summary="Look at a simulator", response_model=SimulatorInfo, responses=PROBLEMS)
def get_simulator(_user: User, name: Annotated[str, Path(examples=["swmm"])]) -> Response:
    """Return one simulator; an unknown name gets the nearest ones."""
    return json_answer(catalogue.info(catalogue.find(name[:100])))
