"""Runs one SWMM model and says on standard output how far it is.

    runswmm MODEL.inp [REPORT.rpt [RESULTS.out]]

Report and results are written beside the model unless their names are given. The exit status is 0 only when the engine
ran to the end of the simulated period without an error. Runs inside the simulator's own environment: standard library
and swmm-toolkit only.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from swmm.toolkit import solver
from swmm.toolkit.shared_enum import TimeProperty

_REPORTS = 20
"""How many times the progress is printed."""


def main(arguments: list[str]) -> int:
    """Run the model that the arguments name and return the exit status."""
    if not 1 <= len(arguments) <= 3:
        print("usage: runswmm MODEL.inp [REPORT.rpt [RESULTS.out]]", file=sys.stderr)
        return 2
    model = Path(arguments[0])
    report = Path(arguments[1]) if len(arguments) > 1 else model.with_suffix(".rpt")
    results = Path(arguments[2]) if len(arguments) > 2 else model.with_suffix(".out")
    if not model.is_file():
        print(f"runswmm: there is no file {model}", file=sys.stderr)
        return 2
    if len({path.resolve() for path in (model, report, results)}) < 3:
        print("runswmm: model, report and results must be three different files", file=sys.stderr)
        return 2
    try:
        _run(str(model), str(report), str(results))
    except Exception as error:  # noqa: BLE001 - the engine raises nothing more precise
        print(f"\nrunswmm: {str(error).strip()}", file=sys.stderr)
        for line in _errors(report):
            print(f"  {line}", file=sys.stderr)
        return 1
    return 0


def _run(model: str, report: str, results: str) -> None:
    try:
        solver.swmm_open(model, report, results)
        solver.swmm_start(1)
        start, end = (
            datetime.datetime(*solver.simulation_get_datetime(moment))  # noqa: DTZ001 - a model's time has no zone
            for moment in (TimeProperty.START_DATE, TimeProperty.END_DATE)
        )
        print(f"EPA SWMM {solver.swmm_version_info()}: {start} to {end}", flush=True)
        _step(start, end)
        solver.swmm_end()
        runoff, routing, quality = solver.swmm_get_mass_balance()
        print(
            f"continuity error: runoff {runoff:.3f} %, flow routing {routing:.3f} %, quality {quality:.3f} %",
            flush=True,
        )
    finally:
        solver.swmm_close()


def _step(start: datetime.datetime, end: datetime.datetime) -> None:
    whole = max((end - start) / datetime.timedelta(days=1), 1e-9)
    said = 0
    # The engine answers the days since the start, and 0 after the last step.
    while (days := solver.swmm_step()) > 0:
        part = int(days / whole * _REPORTS)
        if part > said:
            said = part
            reached = (start + datetime.timedelta(days=days)).replace(microsecond=0)
            print(f"{100 * part // _REPORTS:3d} %  {reached}", flush=True)


def _errors(report: Path) -> list[str]:
    if not report.is_file():
        return []
    lines = report.read_text(errors="replace").splitlines()
    found = [i for i, line in enumerate(lines) if line.strip().startswith("ERROR")]
    # The line after an error quotes the faulty line of the model.
    return [lines[j].strip() for i in found[:100] for j in (i, i + 1) if j < len(lines) and lines[j].strip()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
