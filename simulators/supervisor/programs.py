"""How a command's program is found and started."""

from __future__ import annotations

import errno
import os
import subprocess

from simulators.supervisor.ends import LaunchError
from simulators.supervisor.priority import oom_score, set_oom_score

_OOM_SCORE = 500


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
    # When the machine itself runs out of memory, the kernel takes the simulation and not its watchers.
    own = oom_score()
    set_oom_score(_OOM_SCORE)
    try:
        # By vfork: a copy of our own memory would cost more than all else that a short command takes.
        process = subprocess.Popen(
            argv,
            executable=program,
            env=environment,
            cwd=folder,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            close_fds=False,
            start_new_session=True,
        )
    except OSError as error:
        hint = {
            errno.ENOEXEC: "It is not a program; a script needs a first line such as #!/bin/sh.",
            errno.ENOENT: "The interpreter that its first line names is not there.",
            errno.EACCES: "It is not marked as executable.",
        }.get(error.errno or 0, "")
        raise LaunchError(f"{argv[0]!r} cannot be started: {error.strerror}. {hint}".rstrip()) from error
    finally:
        set_oom_score(own)
    # Its end is ours to take, see `Events.reap`: the object must not look for it.
    process.returncode = 0
    return process.pid
