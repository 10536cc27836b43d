"""The labels that our machines carry in Ray."""

GROUP_LABEL = "simyard-group"
"""Names a machine's group."""
