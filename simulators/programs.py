"""Puts a simulator's own Python programs on PATH."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from simulators.spec import VersionSpec


def install_programs(version: VersionSpec, environment: Path) -> None:
    """Make each program of a version executable by its name in the `bin` folder of a Python environment.

    The programs are copied: a later edit of the catalogue does not change an environment that was made.
    """
    folder = environment / "bin"
    code = environment / "programs"
    code.mkdir(exist_ok=True)
    for name, source in version.programs.items():
        program = code / f"{name}.py"
        shutil.copyfile(source, program)
        launcher = folder / name
        # A launcher and not a `#!` line: the kernel cuts that line short and allows no spaces in it.
        words = (folder / "python", "-I", program)
        launcher.write_text(f'#!/bin/sh\nexec {" ".join(shlex.quote(str(word)) for word in words)} "$@"\n')
        launcher.chmod(0o755)
