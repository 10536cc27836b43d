"""A steel bar yields under a shaking load; the analysis goes on from its newest saved state, where there is one.

Every 200 steps OpenSees' own database takes the state of the model below `restart/`. The file `state.json` beside it is
replaced last and names the newest complete state, with the response up to there. Millimetres, kilonewtons, seconds.
"""

import csv
import json
import sys
import time
from pathlib import Path

import openseespy.opensees as ops

STEPS, DT, EVERY = 2000, 0.01, 200
MASS, LENGTH, AREA = 0.05, 3000.0, 100.0
RESTART = Path("restart")
STATE = RESTART / "state.json"
PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0  # seconds after each saved state, as of a longer analysis


def build() -> None:
    """Make the model."""
    ops.model("basic", "-ndm", 1, "-ndf", 1)
    ops.node(1, 0.0)
    ops.node(2, LENGTH)
    ops.fix(1, 1)
    ops.mass(2, MASS)
    ops.uniaxialMaterial("Steel01", 1, 0.35, 200.0, 0.02)
    ops.element("Truss", 1, 1, 2, AREA, 1)
    ops.timeSeries("Trig", 1, 0.0, 15.0, 0.9, "-factor", 1500.0)
    ops.pattern("Plain", 1, 1)
    ops.load(2, MASS)


def analysis() -> None:
    """Say how it is solved."""
    ops.constraints("Plain")
    ops.numberer("Plain")
    ops.system("BandGeneral")
    ops.test("NormUnbalance", 1e-8, 50)
    ops.algorithm("Newton")
    ops.integrator("Newmark", 0.5, 0.25)
    ops.analysis("Transient")


def save(rows: list[list[float]]) -> None:
    """Keep the state of the model and the response up to it."""
    ops.save(len(rows))
    part = STATE.with_suffix(".part")
    part.write_text(json.dumps({"step": len(rows), "rows": rows}))
    part.replace(STATE)
    print(f"step {len(rows)} of {STEPS} is saved")
    time.sleep(PAUSE)


def main() -> None:
    """Shake the bar from its newest saved state to the end."""
    RESTART.mkdir(exist_ok=True)
    build()
    ops.database("File", str(RESTART / "bar"))
    rows: list[list[float]] = []
    if STATE.exists():
        state = json.loads(STATE.read_text())
        ops.restore(state["step"])
        rows = state["rows"]
        print(f"goes on after step {state['step']} of {STEPS}")
    analysis()
    while len(rows) < STEPS:
        if ops.analyze(1, DT) != 0:
            raise SystemExit(f"step {len(rows) + 1} does not converge")
        rows.append([ops.getTime(), ops.nodeDisp(2, 1), ops.basicForce(1)[0]])
        if len(rows) % EVERY == 0:
            save(rows)
    with Path("response.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["time", "displacement", "force"], *rows])
    print(f"greatest displacement {max(abs(row[1]) for row in rows):.6f} mm")


main()
