"""The words by which ps and pgrep show a process."""

import ctypes
import os
from functools import cache

from simulators.supervisor.processes import read_small


def set_title(words: str) -> None:
    """Show this process by these words; they end where the words by which it was started ended.

    Those stand in our own memory, and /proc/self/stat says where (proc(5): arg_start and arg_end).
    """
    start, end = _place()
    if start:
        # The last byte stays 0: without it the kernel would go on reading where the environment stands.
        ctypes.memmove(start, os.fsencode(words)[: end - start - 1].ljust(end - start, b"\0"), end - start)


@cache
def _place() -> tuple[int, int]:
    """Return where the words stand; a fork has them in the same place."""
    fields = read_small("/proc/self/stat").rpartition(b")")[2].split()
    return int(fields[45]), int(fields[46])
