"""A cloud on this host for tests: an emulator answers AWS's clients, and its instances are machines that boot."""
