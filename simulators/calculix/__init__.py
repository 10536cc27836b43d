"""CalculiX: stresses, displacements, heat and vibration of solids by finite elements."""
