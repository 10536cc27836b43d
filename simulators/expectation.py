"""The numbers that a simulator's example must give, and whether tables hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simulators.spec import SimulatorSpec
from simyard.task import Value

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number: its table, the row whose columns have the values of `where`, its column, and how near it must be."""

    table: str
    column: str
    value: float
    tolerance: float
    where: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A real case of a simulator: a folder of input files, the parameters, and the numbers that must come out."""

    folder: Path
    parameters: dict[str, Value]
    numbers: tuple[Number, ...]


def load_example(spec: SimulatorSpec, root: Path | None = None) -> Example:
    """Return the example in a simulator's folder; `root` is the folder of simulators where it is not this one."""
    folder = (root or Path(__file__).parent) / spec.name / "example"
    told = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    numbers = tuple(Number(**number) for number in told["values"])
    return Example(folder=folder, parameters=told["parameters"], numbers=numbers)


def deviations(example: Example, tables: Mapping[str, pa.Table]) -> list[str]:
    """Return a sentence for every number of an example that tables do not hold; empty when all is right."""
    wrong = []
    for number in example.numbers:
        found = _find(number, tables)
        if found is None:
            wrong.append(f"table {number.table} has no row with {dict(number.where)}")
        elif not math.isclose(found, number.value, rel_tol=0, abs_tol=number.tolerance):
            wrong.append(f"{number.table}.{number.column} is {found} instead of {number.value} ± {number.tolerance}")
    return wrong


def _find(number: Number, tables: Mapping[str, pa.Table]) -> float | None:
    table = tables.get(number.table)
    for row in table.to_pylist() if table is not None else ():
        if all(_same(row.get(column), value) for column, value in number.where.items()):
            value = row.get(number.column)
            return None if value is None else float(value)
    return None


def _same(found: Value | None, wanted: Value) -> bool:
    if isinstance(found, float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return found == wanted
