"""Templates and the program that renders them, with limits that hold whatever a template does."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from simyard.cases import nearest
from simyard.errors import InvalidInput, SimyardError, Unavailable
from simyard.resources import MIB
from simyard.task import Value

MAX_RENDERED = 16 * MIB
"""Bytes of the largest file that a template may make."""
MAX_MEMORY = 1024 * MIB
"""Bytes of memory that rendering may take."""
SECONDS = 10.0
"""Cpu time that one template may take for one case."""
_PATIENCE = 120.0
_PROGRAM = Path(__file__).with_name("renderer.py")
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template of a sweep: a file that ends in `.jinja`, or a text of the task."""

    name: str
    """The file's path, or the text's field."""
    field: str
    """Where it stands in the request."""
    source: bytes
    is_part: bool = False
    """It is only taken in by others."""

    @property
    def is_file(self) -> bool:
        """Say whether it is a file."""
        return self.name.endswith(".jinja")


class Renderer:
    """A running program that has read and checked all templates; a context manager that ends it."""

    def __init__(
        self,
        templates: Sequence[Template],
        columns: Sequence[str],
        *,
        seconds: float = SECONDS,
        memory: int = MAX_MEMORY,
    ) -> None:
        """Start it.

        Raises:
            InvalidInput: a template is no Jinja2, or uses what no parameter gives; it says in which line.
            Unavailable: the program does not get on.
        """
        self._templates = {template.name: template for template in templates}
        self._columns = tuple(columns)
        self._seconds = seconds
        self._rendered = [template for template in templates if not template.is_part]
        self._read = bytearray()
        # Nothing of the server's environment, and no module of this folder, gets there.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={},
            cwd="/",
        )
        try:
            self._begin(memory)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                _pipe(pipe).close()

    def render(self, number: int, values: Mapping[str, Value]) -> list[bytes]:
        """Return what each template that is not only a part makes of the values of a case; of a text it is JSON.

        Raises:
            InvalidInput: a template cannot be rendered, takes too long, or makes too much.
            Unavailable: the program does not get on.
        """
        self._send(json.dumps({**values, "case": number}).encode())
        found = []
        for template in self._rendered:
            answer = self._receive(template, number)
            if answer[0]:
                raise self._refusal(json.loads(answer[1:]), number)
            found.append(bytes(answer[1:]))
        return found

    def _begin(self, memory: int) -> None:
        task = {
            "templates": list(self._templates),
            "parts": [template.name for template in self._templates.values() if template.is_part],
            "names": [*self._columns, "case"],
            "seconds": self._seconds,
            "memory": memory,
            "size": MAX_RENDERED,
        }
        self._send(json.dumps(task).encode(), *(template.source for template in self._templates.values()))
        for template in self._templates.values():
            answer = json.loads(self._receive(template, None))
            if "error" in answer:
                raise self._refusal(answer["error"], None)

    def _refusal(self, told: Mapping[str, Any], number: int | None) -> InvalidInput:
        template = self._templates[told["template"]]
        fix = told["fix"]
        if fix == "unknown-name":
            name = told["reason"].split("'")[1]
            fix = nearest(name, [*self._columns, "case"], "It can use")
        where = template.name if template.is_file else ""
        if told["line"] is not None and (template.is_file or told["line"] > 1):
            where += f"{', ' if where else ''}line {told['line']}"
        if number is not None:
            where += f"{', ' if where else ''}case {number}"
        reason = str(told["reason"]).rstrip(".") + "."
        return InvalidInput(f"{where}: {reason}" if where else reason, field=template.field, fix=fix)

    def _send(self, *frames: bytes) -> None:
        pipe = _pipe(self._process.stdin).fileno()
        for frame in frames:
            for data in (len(frame).to_bytes(8), frame):
                left = memoryview(data)
                while left:
                    _, ready, _ = select.select([], [pipe], [], _PATIENCE)
                    if not ready:
                        raise _stuck()
                    try:
                        # No more than a pipe takes at once, so that the write does not wait.
                        left = left[os.write(pipe, left[: select.PIPE_BUF]) :]
                    except BrokenPipeError:
                        # Why it has ended is found when its answer is read.
                        return

    def _receive(self, template: Template, number: int | None) -> bytes:
        size = int.from_bytes(self._take(8, template, number))
        return self._take(size, template, number)

    def _take(self, size: int, template: Template, number: int | None) -> bytes:
        pipe = _pipe(self._process.stdout).fileno()
        ends = time.monotonic() + _PATIENCE
        while len(self._read) < size:
            ready, _, _ = select.select([pipe], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise _stuck()
            data = os.read(pipe, max(_CHUNK, size - len(self._read)))
            if not data:
                raise self._ended(template, number)
            self._read += data
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def _ended(self, template: Template, number: int | None) -> SimyardError:
        status = self._process.wait(_PATIENCE)
        if status == -signal.SIGPROF:
            reason, fix = f"it takes more than {self._seconds:g} s", "Look for a loop that does not end."
        else:
            reason, fix = f"it cannot be rendered (exit status {status})", "Make it smaller or simpler."
        return self._refusal({"template": template.name, "line": None, "reason": reason, "fix": fix}, number)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _stuck() -> Unavailable:
    return Unavailable("The server is too busy to render the templates.", fix="Send the sweep again later.")
