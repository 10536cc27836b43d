"""The catalogue of machine types."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from cluster.machine_types import find_type, list_types, save
from simyard.errors import InvalidInput
from simyard.machine_type import MachineType, Price
from simyard.resources import GIB

TODAY = date(2026, 11, 26)


def priced(region: str, usd: float, day: date = TODAY) -> Price:
    return Price(region=region, on_demand=usd, spot=usd / 3, source="a test", date=day)


def test_every_shipped_type_is_whole_and_its_price_has_source_and_date() -> None:
    types = list_types()
    assert len({(one.provider, one.name) for one in types}) == len(types) > 50
    for one in types:
        assert one.memory >= one.cpus * GIB, one
        assert bool(one.gpus) == (one.gpu is not None) == bool(one.gpu_memory), one
        for price in one.prices:
            assert price.source
            assert price.date >= date(2025, 1, 1)
            assert price.on_demand is not None
            assert 0.01 < price.on_demand / one.cpus < 1, one
    large = find_type("c7i.4xlarge", types)
    assert (large.cpus, large.threads_per_core, large.memory, large.has_spot) == (16, 2, 32 * GIB, True)


def test_an_unknown_type_is_refused_with_the_nearest_names() -> None:
    types = list_types()
    with pytest.raises(InvalidInput) as refused:
        find_type("c7i.4xlarg", types)
    assert (refused.value.field, "c7i.4xlarge" in str(refused.value.fix)) == ("type", True)
    with pytest.raises(InvalidInput) as refused:
        find_type("no such thing", types)
    assert "simyard machines types" in str(refused.value.fix)


def test_what_was_refreshed_takes_the_place_of_what_was_shipped_for_its_region_alone(tmp_path: Path) -> None:
    path = tmp_path / "a folder's" / "machine-types.csv"
    path.parent.mkdir()
    assert list_types(path) == list_types()
    shipped = find_type("c7i.large", list_types())
    own = MachineType(
        name='odd "name", 1', provider="aws", cpus=3, threads_per_core=1, memory=8 * GIB, prices=(priced("mars", 1.5),)
    )
    save([shipped.model_copy(update={"prices": (priced("mars", 2.0), priced("us-east-1", 9.0))}), own], path)
    found = list_types(path)
    assert found[-1] == own
    assert len(found) == len(list_types()) + 1
    large = find_type("c7i.large", found)
    assert [(price.region, price.on_demand) for price in large.prices] == [("us-east-1", 9.0), ("mars", 2.0)]
    assert large.price("mars") == priced("mars", 2.0)
    assert large.price("venus") is None


@pytest.mark.parametrize("line", ["aws,x", "aws,x,many" + "," * 12, "aws,x,1,1,1,0,,0,0,true,here,1,1,me,someday"])
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "machine-types.csv"
    save([], path)
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(InvalidInput, match="line 2") as refused:
        list_types(path)
    assert str(path) in refused.value.reason
    assert refused.value.fix
