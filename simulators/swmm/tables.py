"""The tables that a SWMM run's report and results give."""

from __future__ import annotations

import datetime
import re
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simyard.task import Value

from .results import Results, Series

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - a model's time has no zone
_CONTINUITY = re.compile(r"^\s*Continuity Error \(%\) \.+\s*(-?[\d.]+)", re.MULTILINE)
_Outfall = tuple[str, float, float, float, float]
"""Name, percent of time with flow, average flow, greatest flow and volume."""
_SECTION = re.compile(r"^\s*\*{5,}\s*$")


def summary(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return one row: the engine, the flow units, the continuity errors in percent, and the peak of the outfalls.

    The peak flow is the greatest at any routing step, its moment
    that of the highest report step; flows are in `flow_units`.
    """
    import pyarrow as pa

    report = _file(folder, parameters, ".rpt")
    if report is None:
        return None
    text = report.read_text(errors="replace")
    engine = re.search(r"VERSION (\S+) \(Build ([^)]+)\)", text)
    units = re.search(r"Flow Units \.+ (\w+)", text)
    peak, moment = _peak(folder, parameters)
    _, of_all = _outfall_rows(text)
    row = {
        "engine": engine[2] if engine else None,
        "flow_units": units[1] if units else None,
        "runoff_continuity_error": _continuity(text, "Runoff Quantity Continuity"),
        "routing_continuity_error": _continuity(text, "Flow Routing Continuity"),
        "peak_outfall_flow": of_all[3] if of_all else peak,
        "peak_outfall_time": moment,
        "errors": len(re.findall(r"^\s*ERROR \d+", text, re.MULTILINE)),
        "warnings": len(re.findall(r"^\s*WARNING \d+", text, re.MULTILINE)),
    }
    columns: list[tuple[str, pa.DataType]] = [
        ("engine", pa.string()),
        ("flow_units", pa.string()),
        ("runoff_continuity_error", pa.float64()),
        ("routing_continuity_error", pa.float64()),
        ("peak_outfall_flow", pa.float64()),
        ("peak_outfall_time", pa.timestamp("s")),
        ("errors", pa.int64()),
        ("warnings", pa.int64()),
    ]
    return pa.Table.from_pylist([row], pa.schema(columns))


def outfalls(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return one row an outfall: percent of time with flow, average and greatest flow, total volume."""
    import pyarrow as pa

    report = _file(folder, parameters, ".rpt")
    rows, _ = _outfall_rows(report.read_text(errors="replace")) if report else ([], None)
    if not rows:
        return None
    names, *numbers = zip(*rows, strict=True)
    columns = ("flow_frequency", "average_flow", "maximum_flow", "total_volume")
    return pa.table({"outfall": pa.array(names)} | dict(zip(columns, map(pa.array, numbers), strict=True)))


def nodes(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return a row for every node at every report step."""
    return _series(folder, parameters, "node")


def links(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return a row for every link at every report step."""
    return _series(folder, parameters, "link")


def subcatchments(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return a row for every subcatchment at every report step."""
    return _series(folder, parameters, "subcatchment")


def system(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return a row for every report step."""
    table = _series(folder, parameters, "system")
    return table.drop_columns(["system"]) if table is not None else None


def _file(folder: Path, parameters: Mapping[str, Value], suffix: str) -> Path | None:
    """Return the run's report or results: beside the model, or the only such file where the task names no model."""
    if model := parameters.get("input_file"):
        path = (folder / str(model)).with_suffix(suffix)
        return path if path.is_file() else None
    found = [path for path in folder.rglob(f"*{suffix}") if path.is_file()]
    return found[0] if len(found) == 1 else None


def _series(folder: Path, parameters: Mapping[str, Value], kind: str) -> pa.Table | None:
    import pyarrow as pa

    path = _file(folder, parameters, ".out")
    series = Results(path).series(kind) if path else Series((), (), {})
    if not series.times or not series.elements:
        return None
    count = len(series.elements)
    rows = len(series.times) * count
    seconds, places = array("q"), array("i", range(count)) * len(series.times)
    for moment in series.times:
        seconds.extend(array("q", [int((moment - _EPOCH).total_seconds())]) * count)
    times = pa.Array.from_buffers(pa.timestamp("s"), rows, [None, pa.py_buffer(seconds)])
    numbers = pa.Array.from_buffers(pa.int32(), rows, [None, pa.py_buffer(places)])
    values = {
        name: pa.Array.from_buffers(pa.float32(), rows, [None, pa.py_buffer(column)])
        for name, column in series.columns.items()
    }
    return pa.table({"time": times, kind: pa.DictionaryArray.from_arrays(numbers, pa.array(series.elements)), **values})


def _peak(folder: Path, parameters: Mapping[str, Value]) -> tuple[float | None, datetime.datetime | None]:
    path = _file(folder, parameters, ".out")
    series = Results(path).series("system") if path else None
    flows = series.columns.get("outfall_flow") if series else None
    if series is None or not flows:
        return None, None
    flow = max(flows)
    return (flow, series.times[flows.index(flow)]) if flow > 0 else (flow, None)


def _continuity(text: str, heading: str) -> float | None:
    start = text.find(heading)
    found = _CONTINUITY.search(text, start) if start >= 0 else None
    return float(found[1]) if found else None


def _outfall_rows(text: str) -> tuple[list[_Outfall], _Outfall | None]:
    """Return a row for each outfall, and the last row of the report's section, which is for all of them together."""
    lines = iter(text.partition("Outfall Loading Summary")[2].splitlines()[2:])
    rows: list[_Outfall] = []
    for line in lines:
        if _SECTION.match(line):
            break
        # A name may hold anything but blanks; pollutant columns may follow the four numbers.
        words = line.split()
        if len(words) >= 5 and all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in words[1:5]):
            frequency, average, greatest, volume = map(float, words[1:5])
            rows.append((words[0], frequency, average, greatest, volume))
    return rows[:-1], rows[-1] if rows else None
