from __future__ import annotations

import shutil
import struct
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from simulators.swmm import results, tables

# A model's time has no zone.
moment = partial(datetime, tzinfo=None)
# What SWMM 5.2.4 wrote for yard.inp: two outfalls, a pollutant, a non-ASCII name, and midnight in between.
RUN = Path(__file__).parent / "swmm_run"
PARAMETERS = {"input_file": "yard.inp"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "a 'run'"))


def test_the_summary_holds_what_an_engineer_asks_first():
    table = tables.summary(RUN, PARAMETERS)
    assert table is not None
    assert table.to_pylist() == [
        {
            "engine": "5.2.4",
            "flow_units": "CMS",
            "runoff_continuity_error": -0.097,
            "routing_continuity_error": 0.423,
            "peak_outfall_flow": 0.561,
            "peak_outfall_time": moment(2026, 1, 31, 23, 50),
            "errors": 0,
            "warnings": 0,
        }
    ]


def test_every_outfall_has_a_row_and_the_systems_total_has_none():
    table = tables.outfalls(RUN, PARAMETERS)
    assert table is not None
    assert table.column("outfall").to_pylist() == ["Out1", "Out2"]
    assert table.column("maximum_flow").to_pylist() == [0.324, 0.237]


def test_series_have_a_row_for_each_element_at_each_report_step():
    nodes = tables.nodes(RUN, PARAMETERS)
    assert nodes is not None
    assert nodes.num_rows == 4 * 6
    rows = nodes.to_pylist()
    assert [row["node"] for row in rows[:5]] == ["A", "B", "Out1", "Out2", "A"]
    assert rows[3]["time"] == moment(2026, 1, 31, 23, 40)
    assert rows[-1]["time"] == moment(2026, 2, 1, 0, 30)
    assert rows[0]["head"] == pytest.approx(10 + rows[0]["depth"], abs=1e-4)
    assert rows[-1]["pollutant_TSS"] == pytest.approx(10, abs=1e-3)


def test_what_flows_in_the_last_link_arrives_at_its_outfall():
    nodes, links, system = (parse(RUN, PARAMETERS) for parse in (tables.nodes, tables.links, tables.system))
    assert nodes is not None and links is not None and system is not None
    inflow = [row["total_inflow"] for row in nodes.to_pylist() if row["node"] == "Out1"]
    flow = [row["flow"] for row in links.to_pylist() if row["link"] == "P1"]
    assert inflow == pytest.approx(flow, rel=1e-5)
    out = [row["total_inflow"] for row in nodes.to_pylist() if row["node"].startswith("Out")]
    totals = [a + b for a, b in zip(out[::2], out[1::2], strict=True)]
    assert system.column("outfall_flow").to_pylist() == pytest.approx(totals, rel=1e-5)


def test_names_may_hold_any_letters():
    table = tables.subcatchments(RUN, PARAMETERS)
    assert table is not None
    assert set(table.column("subcatchment").to_pylist()) == {"Hof-1", "Größe"}


def test_the_only_results_are_found_without_a_parameter_but_not_one_of_several(run: Path):
    assert tables.nodes(run, {}) is not None
    shutil.copy(run / "yard.out", run / "other.out")
    assert tables.nodes(run, {}) is None


def test_a_run_that_was_cut_off_gives_an_error_at_any_byte(run: Path):
    whole = (run / "yard.out").read_bytes()
    for size in range(0, len(whole), 7):
        (run / "yard.out").write_bytes(whole[:size])
        with pytest.raises((results.NotResults, struct.error)):
            tables.nodes(run, PARAMETERS)


def test_a_damaged_file_never_reads_without_end(run: Path):
    whole = (run / "yard.out").read_bytes()
    for place in (8, 12, 16, 20, 24, len(whole) - 24, len(whole) - 20, len(whole) - 16, len(whole) - 12):
        damaged = whole[:place] + struct.pack("<i", 2**31 - 1) + whole[place + 4 :]
        (run / "yard.out").write_bytes(damaged)
        try:
            tables.nodes(run, PARAMETERS)
        except (ValueError, struct.error, OSError, OverflowError):
            continue


def test_an_error_of_the_engine_is_counted(run: Path):
    (run / "yard.out").unlink()
    (run / "yard.rpt").write_text("\n  ERROR 211: invalid number x at line 4 of [JUNC] section:\n  J1 x\n")
    table = tables.summary(run, PARAMETERS)
    assert table is not None
    assert table.to_pylist()[0]["errors"] == 1
    assert table.to_pylist()[0]["peak_outfall_flow"] is None
