from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from simulators.expectation import Example, Number, deviations


def test_numbers_are_compared_in_the_row_that_is_meant():
    table = pa.table({"node": [1, 2], "u": [0.5, None]})
    near = Number(table="t", column="u", where={"node": 1}, value=0.5001, tolerance=1e-3)
    far = Number(table="t", column="u", where={"node": 1}, value=0.51, tolerance=1e-3)
    null = Number(table="t", column="u", where={"node": 2}, value=0, tolerance=1)
    absent = Number(table="s", column="u", value=0, tolerance=1)
    wrong = deviations(Example(folder=Path(), parameters={}, numbers=(near, far, null, absent)), {"t": table})
    assert len(wrong) == 3
    assert "0.51" in wrong[0]
