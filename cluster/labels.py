"""What several programs of a cluster must call alike: labels, titles and exit statuses."""

GROUP_LABEL = "simyard-group"
"""Names a machine's group."""

CARRIER = "ray::SimulatorActor"
"""How the titles of the processes begin that carry runs."""

LET_GO = 10
"""Exit status of the program that holds a machine's Ray processes, when Ray has let the machine go."""
