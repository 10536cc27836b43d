"""Three bars meet at one loaded joint: a linear static analysis in inches and kips."""

import csv

import openseespy.opensees as ops

MODULUS = 3000.0
SUPPORTS = {1: (0.0, 0.0), 2: (144.0, 0.0), 3: (168.0, 0.0)}
AREAS = {1: 10.0, 2: 5.0, 3: 5.0}  # of the bar from each support to the joint
JOINT, PLACE, LOAD = 4, (72.0, 96.0), (100.0, -50.0)

ops.wipe()
ops.model("basic", "-ndm", 2, "-ndf", 2)
for tag, place in SUPPORTS.items():
    ops.node(tag, *place)
    ops.fix(tag, 1, 1)
ops.node(JOINT, *PLACE)
ops.uniaxialMaterial("Elastic", 1, MODULUS)
for support, area in AREAS.items():
    ops.element("Truss", support, support, JOINT, area, 1)

ops.timeSeries("Linear", 1)
ops.pattern("Plain", 1, 1)
ops.load(JOINT, *LOAD)

ops.recorder("Node", "-file", "joint.out", "-time", "-node", JOINT, "-dof", 1, 2, "disp")
ops.constraints("Plain")
ops.numberer("RCM")
ops.system("BandSPD")
ops.algorithm("Linear")
ops.integrator("LoadControl", 1.0)
ops.analysis("Static")
if ops.analyze(1) != 0:
    raise SystemExit("the analysis did not converge")

with open("displacements.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["node", "ux", "uy"])
    for tag in (*SUPPORTS, JOINT):
        table.writerow([tag, ops.nodeDisp(tag, 1), ops.nodeDisp(tag, 2)])
print(f"joint {JOINT} moves by {ops.nodeDisp(JOINT, 1):.6f} and {ops.nodeDisp(JOINT, 2):.6f} in")
ops.wipe()
