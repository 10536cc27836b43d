"""Machines: their types, groups, reservations and placement on Ray, and how they are launched."""
