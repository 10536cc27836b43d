"""How a command's program is found and started."""

from __future__ import annotations

import errno
import os
import signal

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
    # A spawned process begins where we are.
    home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # When the machine itself runs out of memory, the kernel takes the simulation and not its watchers.
    own = oom_score()
    set_oom_score(_OOM_SCORE)
    try:
        os.chdir(folder)
        # By vfork, since a copy of our own memory would cost more than all else that a short command takes; and in one
        # call, where subprocess.Popen takes 0.2 ms more in a process that had nothing to do for a while.
        return os.posix_spawn(
            program,
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams)],
            setsid=True,
            # Python ignores these, and a program expects to die by them.
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
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
        os.fchdir(home)
        os.close(home)
