"""Reads SWMM's binary results file.

The layout is the one that EPA's SWMM 5 interfacing guide describes: whole numbers and floats of 4 bytes, little-endian;
names, properties, the codes of the variables, then one record a report step (its date as a double, then the values of
every subcatchment, node, link and of the system), and six numbers at the end that say where each part starts.
"""

from __future__ import annotations

import datetime
import os
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAGIC = 516114522
MAX_VALUES = 50_000_000
"""The most values that are read from one file at once: 200 MB."""
FLOW_UNITS = ("CFS", "GPM", "MGD", "CMS", "LPS", "MLD")
_EPOCH = datetime.datetime(1899, 12, 30)  # noqa: DTZ001 - a model's time has no zone

VARIABLES = {
    "subcatchment": (
        "rainfall", "snow_depth", "evaporation", "infiltration", "runoff", "groundwater_flow", "groundwater_elevation",
        "soil_moisture",
    ),
    "node": ("depth", "head", "volume", "lateral_inflow", "total_inflow", "flooding"),
    "link": ("flow", "depth", "velocity", "volume", "capacity"),
    "system": (
        "temperature", "rainfall", "snow_depth", "infiltration", "runoff", "dry_weather_inflow", "groundwater_inflow",
        "rdii_inflow", "direct_inflow", "lateral_inflow", "flooding", "outfall_flow", "stored_volume", "evaporation",
        "potential_evaporation",
    ),
}  # fmt: skip
"""What each kind of element has, in the file's order; pollutants follow by name."""


class NotResults(ValueError):  # noqa: N818 - errors are named after what happened
    """The file is not a complete SWMM results file."""


@dataclass(frozen=True)
class Layout:
    """Where the values of one kind stand in a record: the names of its elements and variables, and the first value."""

    elements: tuple[str, ...]
    variables: tuple[str, ...]
    offset: int

    @property
    def size(self) -> int:
        """The number of values in one record."""
        return len(self.elements) * len(self.variables)


@dataclass(frozen=True)
class Series:
    """The values of one kind of element: `columns[v][t * elements + e]` is variable v of element e at time t."""

    times: tuple[datetime.datetime, ...]
    elements: tuple[str, ...]
    columns: dict[str, array[float]]


class Results:
    """One results file."""

    def __init__(self, path: Path) -> None:
        """Read the file's head.

        Raises:
            NotResults: it is not a results file, or the run that wrote it did not end properly.
        """
        self._path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            if size < 52:
                raise NotResults(f"{path.name} is too short for a results file")
            file.seek(-24, os.SEEK_END)
            names, properties, self._start, self._periods, error, magic = struct.unpack("<6i", file.read(24))
            file.seek(0)
            head, self.version, units, *counts = struct.unpack("<7i", file.read(28))
            if head != MAGIC or magic != MAGIC:
                raise NotResults(f"{path.name} is no complete results file: the run did not end properly")
            if error:
                raise NotResults(f"{path.name} says that the engine ended with error {error}")
            self.flow_units = FLOW_UNITS[units] if 0 <= units < len(FLOW_UNITS) else str(units)
            file.seek(names)
            ids = _read_names(file, sum(counts), properties)
            file.seek(properties)
            self._layouts = _layouts(file, ids, counts)
        self._record = 8 + 4 * sum(layout.size for layout in self._layouts.values())
        if self._periods < 0 or self._start + self._periods * self._record + 24 > size:
            raise NotResults(f"{path.name} is shorter than it says")

    def series(self, kind: str) -> Series:
        """Return all values of a kind: `subcatchment`, `node`, `link` or `system`.

        Raises:
            NotResults: there are more than MAX_VALUES.
        """
        layout = self._layouts[kind]
        if self._periods * layout.size > MAX_VALUES:
            raise NotResults(f"{self._path.name} has more than {MAX_VALUES} values of its {kind}s")
        times, values = [], array("f")
        with self._path.open("rb") as file:
            for period in range(self._periods):
                file.seek(self._start + period * self._record)
                (days,) = struct.unpack("<d", file.read(8))
                times.append(_moment(days))
                file.seek(4 * layout.offset, os.SEEK_CUR)
                values.frombytes(file.read(4 * layout.size))
        step = len(layout.variables)
        columns = {name: values[v::step] for v, name in enumerate(layout.variables)}
        return Series(tuple(times), layout.elements, columns)


def _read_names(file: BinaryIO, count: int, end: int) -> list[str]:
    names = []
    for _ in range(count):
        (length,) = struct.unpack("<i", file.read(4))
        if not 0 <= length <= end - file.tell():
            raise NotResults("a name in the results file has an impossible length")
        names.append(file.read(length).decode(errors="replace"))
    return names


def _layouts(file: BinaryIO, ids: list[str], counts: list[int]) -> dict[str, Layout]:
    subcatchments, nodes, links, pollutants = (tuple(ids[sum(counts[:i]) : sum(counts[: i + 1])]) for i in range(4))
    elements = {"subcatchment": subcatchments, "node": nodes, "link": links, "system": ("system",)}
    # The properties of each kind: how many, their codes, and a value of each for every element.
    for kind in ("subcatchment", "node", "link"):
        (count,) = struct.unpack("<i", file.read(4))
        file.seek(4 * count * (1 + len(elements[kind])), os.SEEK_CUR)
    layouts, offset = {}, 0
    for kind, names in elements.items():
        (count,) = struct.unpack("<i", file.read(4))
        file.seek(4 * count, os.SEEK_CUR)
        known = (*VARIABLES[kind], *(f"pollutant_{name}" for name in pollutants))
        variables = tuple(known[v] if v < len(known) else f"variable_{v}" for v in range(count))
        layouts[kind] = Layout(names, variables, offset)
        offset += layouts[kind].size
    return layouts


def _moment(days: float) -> datetime.datetime:
    # The dates are days as a double, exact to about a microsecond; SWMM's own steps are whole seconds.
    return _EPOCH + datetime.timedelta(seconds=round(days * 86400))
