"""The table of a LAMMPS log."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators import catalogue
from simulators.lammps.tables import thermo

LOG = """LAMMPS (7 Jan 2022)
run 50
Step Temp E_pair
       0         1.44   -6.7733681
WARNING: something to be told
      50   0.74368149   -5.7370606
Loop time of 0.3 on 1 procs for 50 steps with 2048 atoms
1 2 3
Step Temp
      50   0.75
"""


def test_each_run_step_and_quantity_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "log.lammps").write_text(LOG)
    table = thermo(tmp_path, {})
    assert table is not None
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (1, 0, "Temp", 1.44),
        (1, 0, "E_pair", -6.7733681),
        (1, 50, "Temp", 0.74368149),
        (1, 50, "E_pair", -5.7370606),
        (2, 50, "Temp", 0.75),
    ]


@pytest.mark.parametrize(("ranks", "words"), [(1, ()), (4, ("mpirun", "-n", "4"))])
def test_several_ranks_are_started_by_mpirun(ranks: int, words: tuple[str, ...]) -> None:
    spec = catalogue.find("lammps")
    given = {"script": "argon.in", "ranks": ranks}
    [command] = catalogue.commands(spec, spec.versions[0], given, (), {"argon.in"})
    assert command.argv == (*words, "lmp", "-in", "argon.in", "-log", "log.lammps")
