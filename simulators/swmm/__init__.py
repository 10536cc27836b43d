"""EPA SWMM: rain, runoff and the flow in sewers."""
