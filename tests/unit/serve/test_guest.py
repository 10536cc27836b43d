"""A machine that is lent and taken back."""

from __future__ import annotations

from pathlib import Path

from serve.guest import end_abandoned


def test_a_loan_that_was_killed_leaves_no_inputs_of_others_on_the_machine(tmp_path: Path) -> None:
    loan = tmp_path / "no-such-mark"
    kept = loan / "inputs" / "boot"
    kept.mkdir(parents=True)
    (kept / "mesh").write_bytes(b"theirs")
    (loan / "lock").touch()
    assert not end_abandoned(tmp_path)
    assert not (loan / "inputs").exists()
