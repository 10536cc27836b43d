"""LAMMPS: molecular dynamics, on one machine or on several."""
