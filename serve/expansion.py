"""A sweep made into tasks: its template rendered for each case, and every case checked before anything is stored."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from serve.admission import check_inputs, check_spec, digest_of, find_simulator
from serve.parameter_tables import read_table_file
from serve.rendering import Renderer, Template
from simulators import catalogue
from simulators.fingerprint import fingerprint_of
from simyard.cases import Cases, cases_of, check_table_size
from simyard.errors import InputsMissing, InvalidInput, SimyardError
from simyard.files import InputFile, check_relative
from simyard.group import MachineGroup
from simyard.resources import MIB
from simyard.submission import refusal_of
from simyard.sweep import SUFFIX, SweepSpec, TableForm
from simyard.task import Case, TaskSpec, Value
from simyard.words import SweepId, checked_before, new_sweep_id, new_task_id
from storage.inputs import put_input, stored_sizes
from storage.objects import ObjectStore
from storage.parallel import each
from storage.paths import Paths
from tasks.admission import sweep_conflict_of
from tasks.record import Draft, SweepDraft, SweepQuery, SweepSubmission
from tasks.store import Store

MAX_TEMPLATES = 32 * MIB
"""Bytes of all templates of a sweep together."""
MAX_ROWS = 2_000_000
"""Cases times files of one sweep."""
MAX_SPOOL = 4096 * MIB
"""Bytes of all rendered files of a sweep, each different one counted once."""
_TEXTS = ("name", "parameters", "metadata", "commands")
_SIGNS = ("{{", "{%", "{#")


def known_sweep(store: Store, spec: SweepSpec, user: str, key: str | None) -> SweepSubmission | None:
    """Return the sweep that the same request made before.

    Raises:
        Conflict: the key was used for another request.
    """
    if key is None:
        return None
    for known in store.list_sweeps(SweepQuery(user=user, key=key, limit=1)):
        if error := sweep_conflict_of(replace(known.draft, digest=digest_of(spec)), known):
            raise error
        return SweepSubmission(record=known, created=False)
    return None


def expand(
    spec: SweepSpec, user: str, key: str | None, groups: Sequence[MachineGroup] | None, storage: ObjectStore
) -> tuple[SweepDraft, list[Draft]]:
    """Return the sweep and the tasks of its cases, once every file that they need is in the storage.

    What can be known without the template's files is refused first, so that a client need not send them for it; and
    no rendered file is stored before every case has been rendered and checked.

    Raises:
        InputsMissing: files of the template, or the table, are not in the storage.
        SimyardError: the sweep, its template or one of its cases is not valid; field, case and line say where.
    """
    sweep = new_sweep_id()
    digest = digest_of(spec)
    case_key = "sweep-" + (sweep if key is None else hashlib.sha256(key.encode()).hexdigest()[:32])
    plan = _Plan(spec, groups)
    sizes = _check_files(spec, storage)
    cases = _cases(spec, storage)
    plan.check_count(len(cases))
    with _Spool() as spool:
        drafts = [
            Draft(
                id=new_task_id(),
                spec=checked,
                user=user,
                key=f"{case_key}-{number}",
                digest=hashlib.sha256(f"{digest}:{number}".encode()).hexdigest(),
                case=Case(sweep=sweep, number=number, values=values),
                fingerprint=fingerprint_of(checked),
            )
            for number, values, checked in plan.expand(cases, sizes, storage, spool)
        ]
        for _ in each(lambda sha256: put_input(storage, spool.read(sha256)), spool.hashes, threads=16):
            pass
    return _draft(sweep, spec, user, key, digest, drafts[0].spec, cases.columns), drafts


def _draft(
    sweep: SweepId,
    spec: SweepSpec,
    user: str,
    key: str | None,
    digest: str,
    first: TaskSpec,
    columns: tuple[str, ...],
) -> SweepDraft:
    assert first.version is not None
    return SweepDraft(
        id=sweep,
        user=user,
        key=key,
        digest=digest,
        name=spec.name,
        project=first.project,
        simulator=first.simulator,
        version=first.version,
        columns=columns,
    )


def _cases(spec: SweepSpec, storage: ObjectStore) -> Cases:
    if spec.table is None:
        return cases_of(spec.rows, spec.grid)
    label, first = ("data row", 1) if spec.table.form is TableForm.CSV else ("row", 1)
    return cases_of(read_table_file(storage, spec.table), spec.grid, field="table", label=label, first=first)


def _check_files(spec: SweepSpec, storage: ObjectStore) -> dict[str, int | None]:
    """Return the sizes of the template's files, once they and the table are seen to be in the storage."""
    hashes = {file.sha256 for file in spec.task.files}
    table = spec.table
    sizes = stored_sizes(storage, hashes if table is None else {*hashes, table.sha256})
    with _below("task"):
        check_inputs(spec.task, sizes)
    if table is not None and sizes[table.sha256] is None:
        fix = "Upload it like an input: POST /v1/inputs:negotiate says how."
        raise InputsMissing("The table is not in the storage.", field="table", fix=fix)
    if table is not None and sizes[table.sha256] != table.size:
        reason = f"The table has {sizes[table.sha256]} bytes in the storage, and not {table.size}."
        raise InvalidInput(reason, field="table.size", fix="Send the size of the file with this hash.")
    return sizes


class _Plan:
    """What all cases share, checked; and how one case becomes a task.

    Raises:
        SimyardError: something is wrong that is so for every case.
    """

    def __init__(self, spec: SweepSpec, groups: Sequence[MachineGroup] | None) -> None:
        self._task = spec.task
        self._groups = groups
        self._check_table(spec)
        self._files, self._inputs = self._split(spec.task)
        self._document = spec.task.model_dump(mode="json", include=set(_TEXTS))
        self._texts = dict(_texts_of(self._document, ()))
        self._first: TaskSpec | None = None
        """The first case, where no text is a template: all others are like it but for the contents of their files."""
        with _below("task"):
            prototype = self._prototype()
            if self._texts:
                catalogue.resolve(find_simulator(prototype), prototype.version, prototype.runtime)
            else:
                check_spec(prototype, groups)
        if not self._texts and not any(not part for _, part in self._files.values()):
            fix = (
                f"Give a file of the folder a name that ends in {SUFFIX}, and write {{{{ name }}}} where a value goes."
            )
            reason = "The template uses no parameter: all cases would be the same."
            raise InvalidInput(reason, field="task.inputs", fix=fix)

    def _check_table(self, spec: SweepSpec) -> None:
        if spec.table is not None:
            if spec.rows:
                raise InvalidInput("There are rows and a table.", field="table", fix="Send one of them.")
            check_table_size(spec.table.size)
            return
        cases_of(spec.rows, spec.grid)

    def _split(self, task: TaskSpec) -> tuple[dict[int, tuple[InputFile, bool]], list[InputFile]]:
        """Return the templates by their place, each with whether it is a part, and the inputs as a task has them."""
        files: dict[int, tuple[InputFile, bool]] = {}
        inputs: dict[str, int] = {}
        found: list[InputFile] = []
        own = task.files
        for i, file in enumerate(own):
            field = f"task.inputs.{i}.path"
            path = file.path
            if path.endswith(SUFFIX):
                is_part = file.name.startswith("_")
                files[i] = (file, is_part)
                if is_part:
                    continue
                path = path.removesuffix(SUFFIX)
                try:
                    check_relative(path)
                except ValueError:
                    reason = f"{file.path!r} has no name before {SUFFIX}."
                    raise InvalidInput(reason, field=field, fix="Rename it.") from None
            if path in inputs:
                reason = f"{own[inputs[path]].path!r} and {file.path!r} would both become {path!r}."
                raise InvalidInput(reason, field=field, fix="Rename or remove one of them.")
            inputs[path] = i
            found.append(file.model_copy(update={"path": path}))
        if sum(file.size for file, _ in files.values()) > MAX_TEMPLATES:
            reason = f"The templates have more than {MAX_TEMPLATES // MIB} MiB together."
            fix = "Keep what does not change in files of its own, without .jinja."
            raise InvalidInput(reason, field="task.inputs", fix=fix)
        return files, found

    def _prototype(self) -> TaskSpec:
        try:
            return TaskSpec.model_validate(dict(self._task) | {"inputs": (*self._inputs, *self._task.inputs_from)})
        except ValidationError as error:
            raise refusal_of(error) from None

    def check_count(self, cases: int) -> None:
        """Refuse a sweep whose tasks would have too many files together."""
        if cases * len(self._inputs) > MAX_ROWS:
            reason = f"{cases:,} cases of {len(self._inputs):,} files are more than {MAX_ROWS:,} files together."
            raise InvalidInput(reason, field="task.inputs", fix="Pack files that do not change into an archive.")

    def expand(
        self, cases: Cases, sizes: Mapping[str, int | None], storage: ObjectStore, spool: _Spool
    ) -> Iterator[tuple[int, dict[str, Value], TaskSpec]]:
        """Give number, values and checked task of each case; its rendered files are in the spool."""
        templates = [
            Template(
                name=file.path,
                field=f"task.inputs.{i}",
                source=storage.get(Paths.input(file.sha256), length=sizes[file.sha256]),
                is_part=is_part,
            )
            for i, (file, is_part) in self._files.items()
        ]
        rendered = [template.name.removesuffix(SUFFIX) for template in templates if not template.is_part]
        templates += [
            Template(name=field, field=field, source=text.encode("utf-8", "surrogatepass"))
            for field, (_, text) in self._texts.items()
        ]
        places = {file.path: i for i, file in enumerate(self._inputs)}
        with Renderer(templates, cases.columns) as renderer:
            for number, values in enumerate(cases, 1):
                made = renderer.render(number, values)
                inputs = list(self._inputs)
                for path, data in zip(rendered, made, strict=False):
                    i = places[path]
                    # The path and the mode were checked once; only the content is another one.
                    inputs[i] = InputFile.model_construct(
                        path=path, sha256=spool.add(data), size=len(data), mode=inputs[i].mode
                    )
                with _below("task", f"case {number}: "):
                    yield number, values, self._checked(tuple(inputs), made[len(rendered) :], first=number == 1)

    def _checked(self, inputs: tuple[InputFile, ...], texts: Sequence[bytes], *, first: bool) -> TaskSpec:
        changes: dict[str, Any] = {"inputs": (*inputs, *self._task.inputs_from)}
        if self._first is not None:
            # Only what stands in the files differs, which no check reads.
            return checked_before(TaskSpec, {**self._first.__dict__, **changes})
        if texts:
            document = json.loads(json.dumps(self._document))
            for (place, _), text in zip(self._texts.values(), texts, strict=True):
                _put(document, place, json.loads(text))
            try:
                found = TaskSpec.model_validate(document | {"simulator": "any", "inputs": inputs[:1]})
            except ValidationError as error:
                raise refusal_of(error) from None
            changes |= {name: getattr(found, name) for name in _TEXTS}
        # Groups are the same for all cases.
        checked = check_spec(self._task.model_copy(update=changes), self._groups if first else None)
        if not texts:
            self._first = checked
        return checked


class _Spool:
    """Rendered files until all of them are known to be good: one unnamed file, of which nothing is ever left."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="simyard-sweep-")  # noqa: SIM115 - close() ends it
        self._places: dict[str, tuple[int, int]] = {}
        self._size = 0

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def hashes(self) -> Sequence[str]:
        """The hashes of the files, each once."""
        return tuple(self._places)

    def add(self, data: bytes) -> str:
        """Keep a file and return its hash."""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._places:
            if self._size + len(data) > MAX_SPOOL:
                reason = f"The rendered files have more than {MAX_SPOOL // MIB} MiB together."
                raise InvalidInput(reason, field="task.inputs", fix="Make several sweeps of it.")
            self._places[sha256] = (self._size, len(data))
            self._file.write(data)
            self._file.flush()
            self._size += len(data)
        return sha256

    def read(self, sha256: str) -> bytes:
        """Return a file by its hash; safe to use from several threads."""
        start, length = self._places[sha256]
        return os.pread(self._file.fileno(), length, start)


def _texts_of(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[str, tuple[tuple[str | int, ...], str]]]:
    """Give the texts that are templates: by their field, where they stand and what they say."""
    if isinstance(value, str):
        if any(sign in value for sign in _SIGNS):
            yield ".".join(("task", *map(str, place))), (place, value)
        return
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _texts_of(part, (*place, key))


def _put(document: Any, place: tuple[str | int, ...], value: object) -> None:
    *above, last = place
    for key in above:
        document = document[key]
    # A command's words, and what it reads, are texts; parameters and metadata keep the value's own type.
    document[last] = value if place[0] in {"parameters", "metadata"} else _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def _below(field: str, said: str = "") -> Iterator[None]:
    """Let errors name fields of the sweep's request, and the case."""
    try:
        yield
    except SimyardError as error:
        error.field = field if error.field is None else f"{field}.{error.field}"
        error.reason = said + error.reason
        raise
