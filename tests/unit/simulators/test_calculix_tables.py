from __future__ import annotations

from pathlib import Path

import pytest

from simulators import catalogue
from simulators.calculix import tables
from simulators.expectation import deviations, load_example

DAT = """
 displacements (vx,vy,vz) for set TOP and time  0.5000000E+00

         7  1.000000E-01 -2.000000E+00  3.0000-101

 forces (fx,fy,fz) for set TOP and time  0.5000000E+00

         7  1.000000E+00  0.000000E+00  0.000000E+00

     E I G E N V A L U E   O U T P U T

 MODE NO    EIGENVALUE
      1   0.1E+07  0.1E+04  0.1E+03

 displacements (vx,vy,vz) for set TOP and time  0.1000000E+01

         7  NaN  NaN  NaN
         8  2.000000E-01 -4.000000E+00  0.000000E+00
"""


def test_every_increment_gives_its_rows(tmp_path: Path):
    (tmp_path / "a.dat").write_text(DAT)
    table = tables.displacements(tmp_path, {"job": "a.inp"})
    assert table is not None
    assert table.column("time").to_pylist() == [0.5, 1.0, 1.0]
    assert table.column("node").to_pylist() == [7, 7, 8]
    assert table.column("ux").to_pylist()[::2] == [0.1, 0.2]
    assert table.column("uz").to_pylist()[0] == pytest.approx(3e-101)
    assert table.column("uy").to_pylist()[1] != table.column("uy").to_pylist()[1]


def test_a_block_that_is_not_known_is_left_out(tmp_path: Path):
    (tmp_path / "a.dat").write_text(DAT)
    table = tables.forces(tmp_path, {"job": "a"})
    assert table is not None
    assert table.num_rows == 1
    assert tables.stresses(tmp_path, {"job": "a"}) is None


def test_without_a_job_the_only_deck_decides(tmp_path: Path):
    (tmp_path / "a.dat").write_text(DAT)
    assert tables.displacements(tmp_path, {}) is None
    (tmp_path / "a.inp").write_text("")
    assert tables.displacements(tmp_path, {}) is not None


def test_von_mises_is_the_stress_itself_in_tension_and_root_three_times_it_in_shear():
    assert tables.von_mises(5.0, 0, 0, 0, 0, 0) == pytest.approx(5.0)
    assert tables.von_mises(0, 0, 0, 5.0, 0, 0) == pytest.approx(5.0 * 3**0.5)
    assert tables.von_mises(5.0, 5.0, 5.0, 0, 0, 0) == 0


def test_the_reference_agrees_with_beam_theory(tmp_path: Path):
    example = load_example(catalogue.find("calculix"))
    (tmp_path / "cantilever.dat").write_bytes((example.folder / "expected.dat").read_bytes())
    found, warnings = catalogue.tables(catalogue.find("calculix"), tmp_path, example.parameters)
    assert warnings == []
    assert deviations(example, found) == []
    force, length, side, modulus, ratio = 1000.0, 100.0, 10.0, 210_000.0, 0.3
    bending = force * length**3 / (3 * modulus * side**4 / 12)
    shear = force * length / (5 / 6 * modulus / (2 * (1 + ratio)) * side**2)
    tip = [row["uz"] for row in found["displacements"].to_pylist()]
    assert tip == pytest.approx([-(bending + shear)] * len(tip), rel=0.025)
    # The bending stress is greatest at the clamped end and has no net force: tension above, pressure below.
    axial = [row["sxx"] for row in found["stresses"].to_pylist()]
    assert sum(axial) == pytest.approx(0, abs=1e-2)
    assert max(axial) == pytest.approx(force * length * side / 2 / (side**4 / 12), rel=0.25)
