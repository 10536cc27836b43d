"""A discrete-event simulation of the queue: the real core, store twin and placement in a world of faults.

`python -m tests.simulation --seed N` plays one world again, step by step the same.
"""
