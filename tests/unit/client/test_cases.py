from __future__ import annotations

from typing import Any

import pytest

from simyard.cases import MAX_CASES, cases_of, read_csv, values_of
from simyard.errors import InvalidInput


def refused(act: Any, field: str, *said: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        act()
    error = caught.value
    assert error.field == field, error
    for text in said:
        assert text in str(error)
    assert error.fix
    return error


def test_a_grid_is_every_combination_and_its_last_parameter_changes_fastest() -> None:
    cases = cases_of((), {"v": [10, 15], "a": ["x", "y", "z"]})
    assert cases.columns == ("v", "a")
    assert len(cases) == 6
    assert [tuple(case.values()) for case in cases] == [
        (10, "x"),
        (10, "y"),
        (10, "z"),
        (15, "x"),
        (15, "y"),
        (15, "z"),
    ]


def test_every_row_of_a_table_is_combined_with_the_grid() -> None:
    cases = cases_of([{"n": 1, "s": "a"}, {"s": "b", "n": 2.5}], {"on": [True, False]})
    assert cases.columns == ("n", "s", "on")
    assert list(cases) == [
        {"n": 1, "s": "a", "on": True},
        {"n": 1, "s": "a", "on": False},
        {"n": 2.5, "s": "b", "on": True},
        {"n": 2.5, "s": "b", "on": False},
    ]


def test_a_grid_of_a_billion_cases_is_refused_before_it_is_expanded() -> None:
    grid = {name: list(range(1000)) for name in ("a", "b", "c")}
    refused(lambda: cases_of((), grid), "grid", "1,000,000,000 cases", f"{MAX_CASES:,}")
    assert len(cases_of((), {"a": list(range(MAX_CASES))})) == MAX_CASES
    refused(lambda: cases_of([{"x": i} for i in range(100)], {"a": list(range(101))}), "grid", "10,100")


@pytest.mark.parametrize(
    ("rows", "grid", "field", "said"),
    [
        ([], {}, "grid", "no parameters"),
        ([], {"v": []}, "grid.v", "no values"),
        ([], {"v": [1, 2, 1]}, "grid.v", "comes twice"),
        ([], {"v": [1, "a"]}, "grid.v.1", "is a text"),
        ([], {"v": [1, True]}, "grid.v.1", "true or false"),
        ([], {"v": [float("inf")]}, "grid.v.0", "finite"),
        ([], {"v": [2**63]}, "grid.v.0", "63 bits"),
        ([], {"v": ["a" * 10_001]}, "grid.v.0", "longer"),
        ([], {"two words": [1]}, "grid.two words", "cannot be the name"),
        ([], {"2d": [1]}, "grid.2d", "cannot be the name"),
        ([], {"": [1]}, "grid.", "cannot be the name"),
        ([], {"class": [1]}, "grid.class", "meaning of its own"),
        ([], {"case": [1]}, "grid.case", "meaning of its own"),
        ([], {"loop": [1]}, "grid.loop", "meaning of its own"),
        ([{"v": 1}], {"v": [1]}, "grid.v", "table has this parameter too"),
        ([{"v": 1, "a": 2}, {"v": 1}], {}, "rows.1", "no 'a'"),
        ([{"v": 1}, {"v": 1, "w": 2}], {}, "rows.1", "no 'w'"),
        ([{"v": 1}, {"v": "x"}], {}, "rows.1.v", "is a text"),
        ([{"no name": 1}], {}, "rows.0.no name", "cannot be the name"),
        ([{"v": 1}, {"v": float("nan")}], {}, "rows.1.v", "finite"),
    ],
)
def test_what_no_sweep_can_have_is_refused_with_its_place(
    rows: list[dict[str, Any]], grid: dict[str, list[Any]], field: str, said: str
) -> None:
    refused(lambda: cases_of(rows, grid), field, said)


def test_the_columns_of_a_csv_file_get_the_types_that_all_their_cells_can_have() -> None:
    data = '\ufeffn, x,on,name,code\r\n1,2,true,a b,007\r\n\r\n-2,1e-3,False,"c,d",08\r\n'.encode()
    assert read_csv(data) == [
        {"n": 1, "x": 2.0, "on": True, "name": "a b", "code": "007"},
        {"n": -2, "x": 0.001, "on": False, "name": "c,d", "code": "08"},
    ]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "2"], [1, 2]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "x"], ["1", "x"]),
        (["1e400"], ["1e400"]),
        (["nan"], ["nan"]),
        (["1" * 30], [float("1" * 30)]),
        ([".5", "+3"], [0.5, 3.0]),
        (["TRUE"], [True]),
        (["0.10"], [0.1]),
        (["00"], ["00"]),
    ],
)
def test_texts_become_values_by_column(texts: list[str], values: list[Any]) -> None:
    found = values_of(texts)
    assert found == values
    assert [type(one) for one in found] == [type(one) for one in values]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells"),
        (b"a,b\n1,2,3\n", "line 2 has 3 cells"),
        (b"a,b\n1,\n", "line 2, column b: the cell is empty"),
        (b"a,a\n1,2\n", "'a' comes twice"),
        (b"a,\n1,2\n", "column 2 has no name"),
        (b"a;b\n1;2\n", "cannot be the name"),
        (b"a\n\xff\n", "line 2 is not UTF-8"),
        (b'a\n"x\n', "no CSV"),
        (b"a,task\n1,2\n", "meaning of its own"),
    ],
)
def test_a_csv_file_that_is_none_is_refused_with_its_line(data: bytes, said: str) -> None:
    refused(lambda: read_csv(data), "table", said)


def test_a_csv_file_of_too_many_rows_is_refused() -> None:
    refused(lambda: read_csv(b"a\n" + b"1\n" * (MAX_CASES + 1)), "table", "more than 10,000 rows")
    assert len(read_csv(b"a\n" + b"1\n" * MAX_CASES)) == MAX_CASES
