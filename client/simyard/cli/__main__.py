"""`python -m simyard.cli`: the same as `simyard`."""

from simyard.cli import main

main()
