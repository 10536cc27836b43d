"""The labels that our machines carry in Ray, and the title of the processes that carry runs."""

GROUP_LABEL = "simyard-group"
"""Names a machine's group."""

CARRIER = "ray::SimulatorActor"
"""How the titles of the processes begin that carry runs."""
