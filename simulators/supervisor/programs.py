"""How a command's program is found and started."""

from __future__ import annotations

import errno
import os
import signal
from typing import NoReturn

from simulators.supervisor.ends import LaunchError
from simulators.supervisor.priority import set_oom_score


def find_program(name: str, folder: str, path: str) -> str:
    """Return the file that a command's first word means.

    Raises:
        LaunchError: there is no such program.
    """
    if "/" in name:
        candidate = os.path.join(folder, name)
        if os.path.isfile(candidate):
            return candidate
        raise LaunchError(f"There is no program {name!r} in the task's folder or on the machine.")
    for parent in path.split(":"):
        candidate = f"{parent}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise LaunchError(f"There is no program {name!r} on the PATH {path!r}.")


def spawn(argv: list[str], environment: dict[str, str], folder: str, streams: tuple[int, int, int]) -> int:
    """Start a program in a session of its own and return its process id.

    Raises:
        LaunchError: it cannot be started.
    """
    program = find_program(argv[0], folder, environment.get("PATH", ""))
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(program, argv, environment, folder, streams, tell)
    os.close(tell)
    try:
        trouble = os.read(told, 64)
    finally:
        os.close(told)
    if trouble:
        number = int(trouble)
        hint = {
            errno.ENOEXEC: "It is not a program; a script needs a first line such as #!/bin/sh.",
            errno.ENOENT: "The interpreter that its first line names is not there.",
            errno.EACCES: "It is not marked as executable.",
        }.get(number, "")
        raise LaunchError(f"{argv[0]!r} cannot be started: {os.strerror(number)}. {hint}".rstrip())
    return pid


def _become(
    program: str, argv: list[str], environment: dict[str, str], folder: str, streams: tuple[int, int, int], tell: int
) -> NoReturn:
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        # When the machine itself runs out of memory, the kernel takes the simulation and not its watchers.
        set_oom_score(500)
        os.chdir(folder)
        os.execve(program, argv, environment)  # noqa: S606 - an argument vector, no shell
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)
