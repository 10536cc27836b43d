"""`python -m simyard`: the same as `simyard`."""

from simyard.cli import main

main()
