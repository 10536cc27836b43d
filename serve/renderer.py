"""Renders the templates of one sweep: a program of its own, so that what loops or grows without end is ended with it.

It talks in frames, each its length in 8 bytes and then its bytes, over standard input and output:

1. one frame of JSON, what there is to do; then one frame for each template, its source. Each is answered when it has
   been checked: `{"ok": true}` or `{"error": …}`.
2. for each case one frame of JSON, its values. It is answered by one frame for each template that is not only a part of
   others: a byte 0 and the rendered bytes, or a byte 1 and an error in JSON.

Reading and rendering a template may take `seconds` of cpu time each: then SIGPROF ends the program. Nothing but Jinja2
and the standard library is imported, and it is started with an empty environment.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    meta,
    nodes,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")
_BARE = re.compile(r"\{\{-?\s*([^\W\d]\w*)\s*-?\}\}")


class _Refused(Exception):  # noqa: N818 - it is an answer, and never leaves this program
    """A template cannot be used: why, in which line, and what to do."""

    def __init__(self, reason: str, template: str, line: int | None = None, fix: str | None = None) -> None:
        super().__init__(reason)
        self.answer = {"reason": reason, "template": template, "line": line, "fix": fix}


class _Renderer:
    """The templates of a sweep. `parts` are only taken in by others, and `names` are what they may use."""

    def __init__(self, names: Sequence[str], paths: Sequence[str], parts: Sequence[str], most: int) -> None:
        self._names = tuple(names)
        self._paths = tuple(paths)
        self._parts = frozenset(parts)
        self._most = most
        self._sources: dict[str, str] = {}
        self._environments = {newline: self._environment(newline) for newline in ("\n", "\r\n")}
        self._templates: dict[str, Template] = {}

    def _environment(self, newline: Any) -> ImmutableSandboxedEnvironment:
        environment = ImmutableSandboxedEnvironment(
            loader=FunctionLoader(self._load),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            newline_sequence=newline,
            autoescape=False,
            auto_reload=False,
        )
        environment.globals = {name: environment.globals[name] for name in _GLOBALS}
        return environment

    def _load(self, name: str) -> tuple[str, str, None] | None:
        return (self._sources[name], name, None) if name in self._sources else None

    def add(self, path: str, source: bytes) -> None:
        """Take in a template; bytes that are not UTF-8 come out as they went in."""
        self._sources[path] = source.decode("utf-8", "surrogateescape")

    def check(self, path: str) -> None:
        """Refuse a template that is no Jinja2, or that uses what no parameter gives."""
        source = self._sources[path]
        environment = self._environments["\r\n" if "\r\n" in source else "\n"]
        try:
            tree = environment.parse(source, path, path)
            if path not in self._parts:
                self._check_names(path, tree)
            self._templates[path] = environment.get_template(path)
        except TemplateSyntaxError as error:
            raise self._syntax(error, path) from None

    def _check_names(self, path: str, tree: nodes.Template) -> None:
        unknown = meta.find_undeclared_variables(tree) - {*self._names, *_GLOBALS}
        used = [(node.lineno, node.name) for node in tree.find_all(nodes.Name) if node.name in unknown]
        if unknown:
            line, name = min(used, default=(None, min(unknown)))
            raise _Refused(f"it uses {name!r}, which no parameter gives", path, line, "unknown-name")

    def render(self, path: str, values: Mapping[str, Any]) -> bytes:
        """Return what a template makes of the values of a case; a text that is only a name gives the value in JSON."""
        bare = _BARE.fullmatch(self._sources[path]) if not path.endswith(".jinja") else None
        if bare and bare[1] in values:
            return json.dumps(values[bare[1]]).encode()
        try:
            text = self._text(path, values)
        except _Refused:
            raise
        except TemplateNotFound as error:
            reason = f"it reads {error.name!r}, which is no template of this folder"
            fix = "Templates take in files of their own folder that end in .jinja, and nothing else."
            raise _Refused(reason, *self._place(error, path), fix) from None
        except UndefinedError as error:
            raise _Refused(f"{error.message}", *self._place(error, path)) from None
        except SecurityError as error:
            raise _Refused(f"it is not allowed: {error}", *self._place(error, path)) from None
        except MemoryError:
            raise _Refused("it needs too much memory", path) from None
        except RecursionError as error:
            raise _Refused("it takes itself in without end", *self._place(error, path)) from None
        except TemplateSyntaxError as error:
            raise self._syntax(error, path) from None
        except TemplateError as error:
            raise _Refused(f"{error.message}", *self._place(error, path)) from None
        except Exception as error:  # noqa: BLE001 - expressions of users can raise anything
            raise _Refused(f"{type(error).__name__}: {error}", *self._place(error, path)) from None
        return text if path.endswith(".jinja") else json.dumps(text.decode("utf-8", "surrogatepass")).encode()

    def _text(self, path: str, values: Mapping[str, Any]) -> bytes:
        pieces, size = [], 0
        for piece in self._templates[path].generate(values):
            data = piece.encode("utf-8", "surrogateescape")
            size += len(data)
            if size > self._most:
                raise _Refused(f"what it makes is larger than {self._most // 1024**2} MiB", path)
            pieces.append(data)
        return b"".join(pieces)

    def _syntax(self, error: TemplateSyntaxError, path: str) -> _Refused:
        template = error.name if error.name in self._sources else path
        return _Refused(str(error.message), template or path, error.lineno)

    def _place(self, error: BaseException, path: str) -> tuple[str, int | None]:
        """Return the template and the line in which something went wrong."""
        found: tuple[str, int | None] = (path, None)
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename in self._sources:
                found = (frame.f_code.co_filename, line)
        return found


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(what, (0, 0))


def _frames(source: BinaryIO) -> Iterator[bytes]:
    while head := source.read(8):
        yield source.read(int.from_bytes(head))


def _say(out: BinaryIO, *parts: bytes) -> None:
    out.write(sum(len(part) for part in parts).to_bytes(8))
    for part in parts:
        out.write(part)
    out.flush()


def main() -> None:
    """Answer frames until there are no more."""
    frames, out = _frames(sys.stdin.buffer), sys.stdout.buffer
    task = json.loads(next(frames))
    _limit(task["memory"])
    paths, parts, seconds = task["templates"], set(task["parts"]), task["seconds"]
    renderer = _Renderer(task["names"], paths, task["parts"], task["size"])
    for path in paths:
        renderer.add(path, next(frames))
    for path in paths:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            renderer.check(path)
            _say(out, b'{"ok": true}')
        except _Refused as refused:
            _say(out, json.dumps({"error": refused.answer}).encode())
        except (MemoryError, RecursionError):
            _say(out, json.dumps({"error": _Refused("it is too large or too deep", path).answer}).encode())
    rendered = [path for path in paths if path not in parts]
    for frame in frames:
        values = json.loads(frame)
        for path in rendered:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                _say(out, b"\0", renderer.render(path, values))
            except _Refused as refused:
                _say(out, b"\1", json.dumps(refused.answer).encode())


if __name__ == "__main__":
    main()
