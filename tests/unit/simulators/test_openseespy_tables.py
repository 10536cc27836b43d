from __future__ import annotations

from pathlib import Path

import pytest

from simulators.openseespy import tables


def test_a_csv_files_columns_have_its_names_and_texts_are_left_out(tmp_path: Path):
    (tmp_path / "deep 'é'").mkdir()
    (tmp_path / "deep 'é'" / "disp.csv").write_text('node,"u, x",note\n1,0.5,"good"\n2,-1e-3,\n')
    table = tables.values(tmp_path, {})
    assert table is not None
    assert table.to_pylist() == [
        {"file": "deep 'é'/disp.csv", "row": 0, "column": "node", "value": 1.0},
        {"file": "deep 'é'/disp.csv", "row": 0, "column": "u, x", "value": 0.5},
        {"file": "deep 'é'/disp.csv", "row": 1, "column": "node", "value": 2.0},
        {"file": "deep 'é'/disp.csv", "row": 1, "column": "u, x", "value": -0.001},
    ]


def test_a_csv_file_of_numbers_only_loses_no_row(tmp_path: Path):
    (tmp_path / "a.csv").write_text("1,2\n3,4,5\n")
    table = tables.values(tmp_path, {})
    assert table is not None
    assert table.column("value").to_pylist() == [1, 2, 3, 4, 5]
    assert table.column("column").to_pylist() == ["0", "1", "0", "1", "2"]


def test_a_recorder_file_gives_its_columns_by_number(tmp_path: Path):
    (tmp_path / "node.out").write_text("0.1 2 -3\n\n0.2 4 inf\n")
    table = tables.values(tmp_path, {})
    assert table is not None
    assert table.column("row").to_pylist() == [0, 0, 0, 2, 2, 2]


def test_links_are_not_followed(tmp_path: Path):
    (tmp_path / "secret.txt").write_text("1,2\n")
    (tmp_path / "a.csv").symlink_to(tmp_path / "secret.txt")
    assert tables.values(tmp_path, {}) is None


def test_too_many_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "MAX_VALUES", 10)
    (tmp_path / "a.csv").write_text("1\n" * 11)
    with pytest.raises(ValueError, match="more than 10 numbers"):
        tables.values(tmp_path, {})
