"""The tables that a CalculiX run's .dat file gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simyard.task import Value

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 10_000_000
"""The most rows that are read into one table."""

# Such as: " displacements (vx,vy,vz) for set TIP and time  0.1000000E+01"
_HEAD = re.compile(
    r"^\s*(?P<what>[A-Za-z][^()]*?)\s*\((?P<columns>[^)]*)\) for set (?P<set>\S+) and time\s+(?P<time>\S+)"
)
_AXES = ("x", "y", "z")
_TENSOR = ("xx", "yy", "zz", "xy", "xz", "yz")


@dataclass
class _Rows:
    """Rows of one table, column by column."""

    times: list[float] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    labels: list[tuple[int | None, ...]] = field(default_factory=list)
    values: list[tuple[float, ...]] = field(default_factory=list)


def displacements(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return one row a node and moment: time, set, node, ux, uy, uz."""
    return _table(_read(folder, parameters, "displacements", 1), ("node",), [f"u{axis}" for axis in _AXES])


def forces(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return one row a node and moment: time, set, node, fx, fy, fz; the node is null for the total of a set."""
    return _table(_read(folder, parameters, "forces", 1), ("node",), [f"f{axis}" for axis in _AXES])


def stresses(folder: Path, parameters: Mapping[str, Value]) -> pa.Table | None:
    """Return one row an integration point and moment: time, set, element, point, the six components and von_mises."""
    import pyarrow as pa

    rows = _read(folder, parameters, "stresses", 2)
    table = _table(rows, ("element", "point"), [f"s{pair}" for pair in _TENSOR])
    if table is None:
        return None
    return table.append_column("von_mises", pa.array([von_mises(*values) for values in rows.values], pa.float64()))


def von_mises(xx: float, yy: float, zz: float, xy: float, xz: float, yz: float) -> float:
    """Return von Mises' stress of a stress tensor."""
    normal = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
    return float((normal / 2 + 3 * (xy**2 + xz**2 + yz**2)) ** 0.5)


def _table(rows: _Rows, labels: tuple[str, ...], columns: list[str]) -> pa.Table | None:
    import pyarrow as pa

    if not rows.times:
        return None
    table = {"time": pa.array(rows.times, pa.float64()), "set": pa.array(rows.sets).dictionary_encode()}
    for i, name in enumerate(labels):
        table[name] = pa.array([label[i] for label in rows.labels], pa.int64())
    for i, name in enumerate(columns):
        table[name] = pa.array([values[i] for values in rows.values], pa.float64())
    return pa.table(table)


def _read(folder: Path, parameters: Mapping[str, Value], what: str, labels: int) -> _Rows:
    """Return the rows of every block of that name; a block `total force` belongs to `forces`."""
    rows = _Rows()
    path = _file(folder, parameters)
    size = 6 if what == "stresses" else 3
    for head, numbers in _blocks(path) if path is not None else ():
        total = head["what"] == "total force"
        if head["what"] != what and not (total and what == "forces"):
            continue
        count = 0 if total else labels
        if len(numbers) < count + size:
            continue
        if len(rows.times) >= MAX_ROWS:
            raise ValueError(f"the .dat file has more than {MAX_ROWS} rows of {what}")
        rows.times.append(float(head["time"]))
        rows.sets.append(head["set"])
        rows.labels.append(tuple(int(text) for text in numbers[:count]) if count else (None,) * labels)
        rows.values.append(tuple(_number(text) for text in numbers[count : count + size]))
    return rows


def _blocks(path: Path) -> Iterator[tuple[re.Match[str], list[str]]]:
    head: re.Match[str] | None = None
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if not words:
                continue
            if words[0].isdigit() or _is_number(words[0]):
                if head is not None:
                    yield head, words
            else:
                head = _HEAD.match(line)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d|\.).*", text) is not None


def _number(text: str) -> float:
    # Fortran drops the E where an exponent has three digits: 1.234567-101.
    return float(re.sub(r"(?<=\d)([-+]\d{3})$", r"E\1", text))


def _file(folder: Path, parameters: Mapping[str, Value]) -> Path | None:
    """Return the job's .dat file; where the task names no job, the only one that belongs to an input deck."""
    if job := parameters.get("job"):
        path = folder / f"{str(job).removesuffix('.inp')}.dat"
        return path if path.is_file() else None
    found = [path for path in folder.rglob("*.dat") if path.is_file() and path.with_suffix(".inp").is_file()]
    return found[0] if len(found) == 1 else None
