"""What is refused at the door: everything that can be known to be wrong before a machine is paid for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel

from simulators import catalogue
from simulators.fingerprint import fingerprint_of
from simulators.spec import SimulatorSpec
from simyard.dependency import Dependency, InputFrom
from simyard.errors import InputsMissing, InvalidInput, NotFound, SimyardError
from simyard.group import GroupState, Machine, MachineGroup, Offer
from simyard.resources import Resources
from simyard.simulator import RuntimeName
from simyard.task import LOCAL_GROUP, Input, TaskSpec, Value
from simyard.words import TaskId, checked_before, new_task_ids
from storage.inputs import stored_sizes
from storage.objects import ObjectStore
from tasks.dependencies import unknown_task
from tasks.record import Draft
from tasks.rooms import fits_empty
from tasks.store import Store

_SHOWN = 5
_words = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_WORDS_OF: dict[type[Value], Callable[[Any], str]] = {str: _words, int: repr, float: repr, bool: _words}


class Own(NamedTuple):
    """What tasks that are alike have of their own; their input files differ at most in their contents."""

    name: str | None
    metadata: dict[str, Value]
    inputs: tuple[Input, ...]


class Wanted(NamedTuple):
    """One task that a user asks for; `key` is the idempotency key."""

    spec: TaskSpec
    key: str | None = None
    own: Own | None = None
    """What it has in the place of the spec's, where that is the spec of another one of the request which it is like."""


def admit(
    wanted: Sequence[Wanted], user: str, groups: Sequence[MachineGroup] | None, storage: ObjectStore, store: Store
) -> list[Draft | SimyardError]:
    """Return, for each task that is asked for, a draft that can run, or why it is refused.

    `groups` is None where they are not known at present. Input files that several tasks share are looked up once.
    """
    kinds: dict[int, _Kind] = {}
    of: list[_Kind] = []
    for one in wanted:
        kind = kinds.get(id(one.spec))
        of.append(kind or kinds.setdefault(id(one.spec), _Kind(one.spec, groups)))
    checked = [kind.checked(one.own) for one, kind in zip(wanted, of, strict=True)]
    good = {id(spec.inputs): spec for spec in checked if isinstance(spec, TaskSpec)}
    sizes = stored_sizes(storage, {file.sha256 for spec in good.values() for file in spec.files})
    emptied = _emptied(good.values(), user, store)
    return [
        spec
        if isinstance(spec, SimyardError)
        else (_emptied_error(spec, emptied) if emptied else None) or kind.draft(task, one, spec, user, sizes, store)
        for task, one, spec, kind in zip(new_task_ids(len(wanted)), wanted, checked, of, strict=True)
    ]


class _Kind:
    """What is found out of one task, and holds of all that are like it."""

    def __init__(self, first: TaskSpec, groups: Sequence[MachineGroup] | None) -> None:
        self._first = first
        self._own = Own(first.name, first.metadata, first.inputs)
        # What is wrong with the first one's own part is not wrong with the others'.
        shared = checked_before(TaskSpec, {**first.__dict__, "name": None, "metadata": {}})
        self._found = _checked(shared, groups)
        self._forms: dict[tuple[str, ...], str] = {}
        self._present: dict[int, tuple[TaskSpec, str | None]] = {}

    def checked(self, own: Own | None) -> TaskSpec | SimyardError:
        """Return the task as it can run, or why it is refused."""
        found, own = self._found, own or self._own
        if isinstance(found, SimyardError):
            return found
        try:
            _check_texts(own.name, {"metadata": own.metadata})
        except InvalidInput as error:
            return error
        fields = {**found.__dict__, "name": own.name, "metadata": own.metadata, "inputs": own.inputs}
        return checked_before(TaskSpec, fields)

    def draft(
        self, task: TaskId, one: Wanted, spec: TaskSpec, user: str, sizes: Mapping[str, int | None], store: Store
    ) -> Draft | SimyardError:
        """Return the draft of a checked task of this id, or why its inputs keep it from running."""
        # Tasks with the same inputs have them as one object.
        present = self._present.get(id(spec.inputs))
        fingerprint = fingerprint_of(spec) if present is None else present[1]
        draft = Draft(
            id=task,
            spec=spec,
            user=user,
            key=one.key,
            digest=self._digest(one.own),
            fingerprint=fingerprint,
        )
        if present is not None:
            return draft
        try:
            check_inputs(spec, sizes)
        except InputsMissing as error:
            # Nobody sends gigabytes for a task that is refused afterwards.
            return unknown_task(draft, partial(store.named, user)) or error
        except InvalidInput as error:
            return error
        self._present[id(spec.inputs)] = spec, fingerprint
        return draft

    def _digest(self, own: Own | None) -> str:
        """Return what `digest_of` does; the fields that all have alike are put into words once."""
        if own is None:
            return digest_of(self._first)
        texts: dict[str, str] = {}
        if own.inputs is not self._first.inputs:
            files = [one.model_dump(mode="json", exclude_defaults=True) for one in own.inputs]
            texts["inputs"] = _words(files)
        if own.metadata:
            texts["metadata"] = _flat_words(own.metadata)
        if own.name is not None:
            texts["name"] = _words(own.name)
        names = tuple(texts)
        form = self._forms.get(names) or self._forms.setdefault(names, self._form(names))
        return _hash(form % tuple(texts.values()))

    def _form(self, own: tuple[str, ...]) -> str:
        """Return what a request says, in words, with a place for each of its own fields, which come in order."""
        said = self._first.model_dump(mode="json", exclude_defaults=True, exclude={"name", "metadata"})
        texts = {name: _words(value).replace("%", "%%") for name, value in said.items()}
        texts |= dict.fromkeys(own, "%s")
        return "{" + ",".join([f'"{name}":{text}' for name, text in sorted(texts.items())]) + "}"


def digest_of(spec: BaseModel) -> str:
    """Return the hash of a request as it was meant: the order of fields and the spelling of sizes do not matter.

    Defaults are left out, so that it stays the same when a later release knows more fields.
    """
    return _hash(_words(spec.model_dump(mode="json", exclude_defaults=True)))


def _flat_words(values: Mapping[str, Value]) -> str:
    """Return what `_words` does, of values by names that need no quoting, in a third of the time."""
    return "{" + ",".join([f'"{name}":{_WORDS_OF[type(value)](value)}' for name, value in sorted(values.items())]) + "}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check_spec(spec: TaskSpec, groups: Sequence[MachineGroup] | None) -> TaskSpec:
    """Return the spec with version, runtime, commands and restart files filled in.

    Raises:
        SimyardError: the simulator, a parameter, a command, the group or the resources cannot be had.
    """
    simulator = find_simulator(spec)
    version, runtime = catalogue.resolve(simulator, spec.version, _wanted_runtime(spec, simulator))
    _check_texts(spec.name, {"parameters": spec.parameters, "metadata": spec.metadata})
    paths = {file.path for file in spec.files}
    # What other tasks give is not known yet: a file that may be among it is taken to be there.
    named = [value for value in spec.parameters.values() if isinstance(value, str)]
    paths |= {path for path in named if any(one.gives(path) for one in spec.inputs_from)}
    commands = catalogue.commands(simulator, version, spec.parameters, spec.commands, paths, runtime)
    checkpoint = catalogue.checkpoint(simulator, spec.checkpoint, spec.parameters, spec.commands, paths, runtime)
    if spec.resources.whole_machine:
        _check_whole_machine(spec)
    if groups is not None:
        _check_group(spec, groups)
    return spec.model_copy(
        update={"version": version.version, "runtime": runtime, "commands": commands, "checkpoint": checkpoint}
    )


def _wanted_runtime(spec: TaskSpec, simulator: SimulatorSpec) -> RuntimeName | None:
    """Return the runtime that a task names, or must have: on several machines it runs in containers."""
    if spec.resources.machines == 1:
        return spec.runtime
    if spec.runtime is RuntimeName.NATIVE:
        reason = "on several machines a task runs in containers, and not in the runtime native."
        raise InvalidInput(reason, field="runtime", fix="Leave it out, or ask for podman or docker.")
    had = [one for version in simulator.versions for one in version.runtimes if one is not RuntimeName.NATIVE]
    return spec.runtime or next(iter(had), RuntimeName.PODMAN)


def find_simulator(spec: TaskSpec) -> SimulatorSpec:
    """Return the simulator that a task names.

    Raises:
        InvalidInput: there is none of that name.
    """
    try:
        return catalogue.find(spec.simulator)
    except NotFound as error:
        # The address of the request does exist: it is its field that is wrong.
        raise InvalidInput(error.reason, field="simulator", fix=error.fix) from None


def _checked(spec: TaskSpec, groups: Sequence[MachineGroup] | None) -> TaskSpec | SimyardError:
    try:
        return check_spec(spec, groups)
    except SimyardError as error:
        return error


def _emptied(specs: Iterable[TaskSpec], user: str, store: Store) -> set[tuple[str | None, str | None]]:
    """Return those references to tasks whose outputs are asked for and have been removed."""
    asked = {one.named: Dependency(task=one.task, key=one.key) for spec in specs for one in spec.inputs_from}
    found = store.named(user, list(asked.values())) if asked else {}
    return {name for name, record in found.items() if record.task.outputs_removed_at is not None}


def _emptied_error(spec: TaskSpec, emptied: Container[tuple[str | None, str | None]]) -> InvalidInput | None:
    for i, one in enumerate(spec.inputs):
        if isinstance(one, InputFrom) and one.named in emptied:
            return InvalidInput(
                f"The outputs of task {one} have been removed.", field=f"inputs.{i}", fix="Run that task again."
            )
    return None


def _check_texts(name: str | None, kinds: Mapping[str, Mapping[str, Value]]) -> None:
    if name is not None and "\0" in name:
        raise InvalidInput("holds a NUL character.", field="name", fix="Remove it.")
    for kind, values in kinds.items():
        for field, value in values.items():
            if isinstance(value, str) and "\0" in value:
                raise InvalidInput("holds a NUL character.", field=f"{kind}.{field}", fix="Remove it.")


def _check_group(spec: TaskSpec, groups: Sequence[MachineGroup]) -> None:
    named = {group.name: group for group in groups}
    if spec.group not in named:
        # The server's own group exists before its first machine has reported.
        if spec.group == LOCAL_GROUP:
            return
        known = ", ".join(sorted({*named, LOCAL_GROUP}))
        raise InvalidInput(f"there is no machine group {spec.group!r}.", field="group", fix=f"Known groups: {known}.")
    if named[spec.group].state is GroupState.ENDING:
        raise InvalidInput(f"the machine group {spec.group} is ending.", field="group", fix="Choose another group.")
    machines = named[spec.group].places
    if machines and not any(fits_empty(spec.resources, machine) for machine in machines):
        raise _too_large(spec, machines)
    _check_machines(spec, named[spec.group])
    _check_retry_memory(spec, machines)


def _check_machines(spec: TaskSpec, group: MachineGroup) -> None:
    """Refuse a task that needs more machines than its group can have: its most, or where it has none those it has."""
    need, fitting = spec.resources, [one for one in group.places if fits_empty(spec.resources, one)]
    most = len(fitting) if group.max is None else group.max
    if need.machines > 1 and group.places and need.machines > most:
        reason = f"{need.machines} machines are more than group {group.name} has: {most} that are large enough."
        fix = "Ask for fewer, or choose or make a larger group: `simyard groups create`."
        raise InvalidInput(reason, field="resources.machines", fix=fix)


def _check_whole_machine(spec: TaskSpec) -> None:
    """Refuse a task that wants a machine for itself and says what it takes of it, which may be another thing."""
    plain, need = Resources(), spec.resources
    for name, unit in (("cpus", "cores"), ("memory", "bytes of memory"), ("gpus", "GPUs")):
        if (asked := getattr(need, name)) != getattr(plain, name):
            reason = f"{asked:.15g} {unit} are asked for beside a whole machine, which gives all that it has."
            fix = f"Leave {name} out and choose a group of such machines, or leave whole_machine out."
            raise InvalidInput(reason, field=f"resources.{name}", fix=fix)
    if spec.retry.memory is not None:
        reason = "a whole machine has no more memory to give when the task is tried again."
        fix = "Leave it out, and choose a group of larger machines."
        raise InvalidInput(reason, field="retry.memory", fix=fix)


def _check_retry_memory(spec: TaskSpec, machines: Sequence[Machine | Offer]) -> None:
    need = spec.resources
    most = max((m.memory for m in machines if need.cpus <= m.cpus and need.gpus <= m.gpus), default=None)
    if spec.retry.memory is not None and most is not None and spec.retry.memory > most:
        reason = f"{spec.retry.memory} bytes are more than any machine of group {spec.group} can give: {most}."
        raise InvalidInput(reason, field="retry.memory", fix="Ask for less, or choose another group.")


def _too_large(spec: TaskSpec, machines: Sequence[Machine | Offer]) -> InvalidInput:
    where = f"the largest machine of group {spec.group}"
    disk = max(math.inf if machine.disk is None else machine.disk for machine in machines)
    if spec.resources.reserved_disk > disk:
        reason = f"{spec.resources.disk} bytes of disk are more than {where} can keep for one task: {disk:.15g}."
        fix = "Ask for less, or choose another group. Without it a task may use what is free, up to 20 GiB."
        raise InvalidInput(reason, field="resources.disk", fix=fix)
    for name, unit in (("cpus", "cores"), ("memory", "bytes of memory"), ("gpus", "GPUs")):
        need, most = getattr(spec.resources, name), max(getattr(machine, name) for machine in machines)
        if need > most:
            reason = f"{need:.15g} {unit} are more than {where} has: {most:.15g}."
            return InvalidInput(reason, field=f"resources.{name}", fix="Ask for less, or choose another group.")
    reason = f"no single machine of group {spec.group} has all of these cpus, memory, GPUs and disk together."
    return InvalidInput(reason, field="resources", fix="Ask for less, or choose another group.")


def check_inputs(spec: TaskSpec, sizes: Mapping[str, int | None]) -> None:
    """Refuse a task whose input files are not in the storage as it says; `sizes` has what is there by hash.

    Raises:
        InputsMissing: some are not there.
        InvalidInput: one has another size.
    """
    absent = [file.path for file in spec.files if sizes[file.sha256] is None]
    if absent:
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        shown = ", ".join(repr(path) for path in absent[:_SHOWN])
        fix = "Upload them first: POST /v1/inputs:negotiate says how."
        raise InputsMissing(f"these files are not in the storage: {shown}{more}.", field="inputs", fix=fix)
    for i, file in enumerate(spec.inputs):
        if isinstance(file, InputFrom):
            continue
        stored = sizes[file.sha256]
        if stored != file.size:
            reason = f"{file.path!r} has {stored} bytes in the storage, and not {file.size}."
            raise InvalidInput(reason, field=f"inputs.{i}.size", fix="Send the size of the file with this hash.")
