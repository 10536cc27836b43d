from __future__ import annotations

from typing import Any

import pytest

from simyard.cli.grids import parse_grid
from simyard.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10,15,20", [10, 15, 20]),
        ("7", [7]),
        ("0:10:2", [0, 2, 4, 6, 8, 10]),
        ("0:10:4", [0, 4, 8]),
        ("1:3", [1, 2, 3]),
        ("3:1:-1", [3, 2, 1]),
        ("0:0.3:0.1", [0.0, 0.1, 0.2, 0.3]),
        ("1e-2:3e-2:1e-2", [0.01, 0.02, 0.03]),
        ("a, b", ["a", "b"]),
        ("true,false", [True, False]),
        ("1,2.5", [1.0, 2.5]),
        ("5:5:1", [5]),
        ("08:00,09:30", ["08:00", "09:30"]),
    ],
)
def test_values_and_ranges(text: str, values: list[Any]) -> None:
    found = parse_grid([f"v={text}"])["v"]
    assert found == values
    assert [type(one) for one in found] == [type(one) for one in values]


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        (["v="], "grid.v"),
        (["v"], "grid"),
        (["=1"], "grid"),
        (["v=1", "v=2"], "grid.v"),
        (["v=1,,2"], "grid.v"),
        (["v=0:10:0"], "grid.v"),
        (["v=0:10:-1"], "grid.v"),
        (["v=a:b:c"], "grid.v"),
        (["v=0:inf:1"], "grid.v"),
        (["v=0:1e20:1e-20"], "grid.v"),
        (["v=0:1e999:1"], "grid.v"),
        (["v=0:20000:1"], "grid.v"),
    ],
)
def test_what_is_no_grid_is_refused_with_its_name(texts: list[str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_grid(texts)
    assert caught.value.field == field
    assert caught.value.fix
