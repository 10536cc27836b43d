"""The folders in which runs work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from simulators.scratch import Claim, remove_tree, sweep


def test_a_claimed_folder_is_never_swept(tmp_path: Path) -> None:
    claim = Claim.make(tmp_path / "scratch" / "a")
    (claim.work / "precious").touch()
    assert sweep(tmp_path / "scratch") == 0
    assert (claim.work / "precious").exists()
    claim.release()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_folder_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from simulators.scratch import Claim\n"
        "claim = Claim.make(Path(sys.argv[1])); print('claimed', flush=True); time.sleep(600)"
    )
    root = tmp_path / "scratch" / "a"
    with subprocess.Popen([sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"claimed\n"
        assert sweep(tmp_path / "scratch") == 0
        owner.kill()
    assert sweep(tmp_path / "scratch") == 1
    assert not root.exists()


def test_a_folder_whose_maker_died_before_locking_it_is_swept(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "half" / "work").mkdir(parents=True)
    assert sweep(tmp_path / "scratch") == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_claim_starts_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "work").mkdir(parents=True)
    (tmp_path / "a" / "work" / "old").touch()
    claim = Claim.make(tmp_path / "a")
    assert list(claim.work.iterdir()) == []
    claim.release()


def test_nothing_to_sweep_is_fine(tmp_path: Path) -> None:
    assert sweep(tmp_path / "absent") == 0


def test_a_tree_without_rights_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "file").touch()
    os.symlink(outside, tree / "link")
    (tree / "closed").chmod(0)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()
