"""Where files and results live."""
