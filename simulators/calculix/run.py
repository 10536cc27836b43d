"""Runs CalculiX and makes its failures visible.

    ccx [-i] JOB

CalculiX ends with exit status 0 when the input deck is missing, and after some errors. This program takes its place on
PATH: it runs the real one in the job's folder, passes its output on, and ends with 0 only when CalculiX did and wrote
that the job is finished. Runs inside the simulator's image: standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ENGINE = "/usr/bin/ccx"
_FINISHED = b"Job finished"


def main(arguments: list[str]) -> int:
    """Run the job that the arguments name and return the exit status."""
    if len(arguments) == 2 and arguments[0] == "-i":
        job = arguments[1]
    elif len(arguments) == 1 and not arguments[0].startswith("-"):
        job = arguments[0]
    else:
        # Whatever else CalculiX understands, such as -v, is its own affair.
        os.execv(_ENGINE, [_ENGINE, *arguments])  # noqa: S606 - an argument vector, no shell
    deck = Path(job.removesuffix(".inp") + ".inp")
    if not deck.is_file():
        print(f"ccx: there is no input deck {deck}", file=sys.stderr)
        return 2
    code, finished = _run(deck)
    if code == 0 and not finished:
        print("ccx: CalculiX ended without finishing the job; its last messages say why", file=sys.stderr)
        return 1
    return code if code >= 0 else 128 - code


def _run(deck: Path) -> tuple[int, bool]:
    """Run the engine; return its exit status and whether it said that the job is finished."""
    # Line by line, so that whoever follows the log sees where the job is.
    environment = os.environ | {"GFORTRAN_UNBUFFERED_PRECONNECTED": "y"}
    argv = ["/usr/bin/stdbuf", "-oL", _ENGINE, "-i", deck.stem]
    finished = False
    tail = b""
    with subprocess.Popen(argv, cwd=deck.parent, env=environment, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        while chunk := engine.stdout.read1(65536):  # type: ignore[attr-defined]
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            tail = (tail + chunk)[-len(chunk) - len(_FINISHED) :]
            finished = finished or _FINISHED in tail
    return engine.returncode, finished


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
