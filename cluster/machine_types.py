"""The catalogue of machine types: what comes with this release, and what was refreshed from the provider since.

Both are CSV files, a row for each type and region, or one without a region and a price. Those of this release have
their facts from AWS, cores, memory, GPUs and disks from DescribeInstanceTypes and prices from the Price List, from a
catalogue of Google's prices, and from Azure's documentation of its series; each price names its source and its date.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path

from simyard.errors import InvalidInput
from simyard.machine_type import MachineType, Price
from simyard.resources import MIB

COLUMNS = (
    "provider",
    "name",
    "cpus",
    "threads_per_core",
    "memory_mib",
    "gpus",
    "gpu",
    "gpu_memory_mib",
    "local_disk_gb",
    "spot",
    "region",
    "on_demand_usd",
    "spot_usd",
    "source",
    "date",
)
_GB = 10**9


def catalogue_file(data_dir: Path) -> Path:
    """Return where a server keeps what it has refreshed."""
    return data_dir / "machine-types.csv"


def list_types(refreshed: Path | None = None) -> tuple[MachineType, ...]:
    """Return all machine types, by provider and in the order of the catalogue.

    `refreshed` is a file that `save` has written; its rows take the place of those of this release for the same type
    and region. One that is not there is no error.

    Raises:
        InvalidInput: the file is damaged.
    """
    kept = () if refreshed is None else kept_types(refreshed)
    return merged([*_shipped(), *kept]) if kept else _shipped()


def kept_types(refreshed: Path) -> tuple[MachineType, ...]:
    """Return what `save` has written; nothing where it has not.

    Raises:
        InvalidInput: the file is damaged.
    """
    if not refreshed.exists():
        return ()
    return merged(_rows(refreshed.read_text().splitlines(), str(refreshed)))


@cache
def _shipped() -> tuple[MachineType, ...]:
    """Return what comes with this release; a head asks for it every few seconds."""
    text = resources.files(__package__).joinpath("machine_types.csv").read_text()
    return merged(_rows(text.splitlines(), "machine_types.csv"))


def merged(rows: Iterable[MachineType]) -> tuple[MachineType, ...]:
    """Return each type once, with the last price that is given for each region."""
    types: dict[tuple[str, str], MachineType] = {}
    for row in rows:
        known = types.get((row.provider, row.name))
        regions = {price.region: price for one in (known, row) if one is not None for price in one.prices}
        types[row.provider, row.name] = row.model_copy(update={"prices": tuple(regions.values())})
    return tuple(types.values())


def find_type(name: str, types: Sequence[MachineType], *, field: str = "type") -> MachineType:
    """Return the machine type of that name.

    Raises:
        InvalidInput: there is none; the nearest names stand in the error.
    """
    for one in types:
        if one.name == name:
            return one
    near = difflib.get_close_matches(name, [one.name for one in types], n=3, cutoff=0.5)
    fix = f"Did you mean {' or '.join(near)}?" if near else "`simyard machines types` lists all."
    raise InvalidInput(f"there is no machine type {name[:100]!r}.", field=field, fix=fix)


def prices_in(region: str, types: Iterable[MachineType]) -> Callable[[str, str], float | None]:
    """Return what gives the US dollars an hour of a machine type there in a market; None where they are not known."""
    known = {one.name: one for one in types}

    def price_of(machine_type: str, market: str) -> float | None:
        found = known.get(machine_type)
        price = None if found is None else found.price(region)
        if price is None:
            return None
        return price.spot if market == "spot" else price.on_demand

    return price_of


def save(types: Iterable[MachineType], path: Path) -> None:
    """Write machine types into a file, whole or not at all."""
    # Somebody may ask for prices while the server does.
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with fresh.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in types:
            for price in one.prices:
                writer.writerow(_row(one, price))
    fresh.replace(path)


def _row(one: MachineType, price: Price) -> list[object]:
    return [
        one.provider,
        one.name,
        one.cpus,
        one.threads_per_core,
        one.memory // MIB,
        one.gpus,
        one.gpu or "",
        one.gpu_memory // MIB,
        one.local_disk // _GB,
        str(one.has_spot).lower(),
        price.region,
        "" if price.on_demand is None else price.on_demand,
        "" if price.spot is None else price.spot,
        price.source,
        price.date.isoformat(),
    ]


def _rows(lines: Sequence[str], where: str) -> Iterable[MachineType]:
    reader = csv.DictReader(lines, strict=True)
    try:
        for row in reader:
            yield _type_of(row)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"line {reader.line_num} of {where} is no machine type: {error}."
        raise InvalidInput(reason, fix="Remove the file and refresh it again.") from error


def _type_of(row: dict[str, str]) -> MachineType:
    prices = (_price_of(row),) if row["region"] else ()
    return MachineType(
        name=row["name"],
        provider=row["provider"],
        cpus=int(row["cpus"]),
        threads_per_core=int(row["threads_per_core"]),
        memory=int(row["memory_mib"]) * MIB,
        gpus=int(row["gpus"]),
        gpu=row["gpu"] or None,
        gpu_memory=int(row["gpu_memory_mib"]) * MIB,
        local_disk=int(row["local_disk_gb"]) * _GB,
        has_spot=row["spot"] == "true",
        prices=prices,
    )


def _price_of(row: dict[str, str]) -> Price:
    return Price(
        region=row["region"],
        on_demand=_number(row["on_demand_usd"]),
        spot=_number(row["spot_usd"]),
        source=row["source"],
        date=date.fromisoformat(row["date"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
