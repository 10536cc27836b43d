"""Checks a task's parameters and commands against what its simulator takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence

from simulators.suggestion import suggest
from simyard.errors import InvalidInput
from simyard.files import check_relative
from simyard.simulator import Command, Parameter, ParameterType, RuntimeName
from simyard.task import Value

_WHOLE = 2**63
_SHOWN = 100


def check_parameters(
    definitions: Sequence[Parameter],
    given: Mapping[str, Value],
    input_paths: Collection[str],
    simulator: str,
    *,
    complete: bool = True,
) -> dict[str, Value]:
    """Return the parameters with defaults filled in.

    Where not `complete`, required ones may be missing. Texts such as `2`, `0.5` or `true` are taken as integer, number
    or boolean, since a command line has only texts.

    Raises:
        InvalidInput: a parameter is unknown, missing, of the wrong type, out of range, or names no input file.
    """
    known = {definition.name: definition for definition in definitions}
    for name in given:
        if name not in known:
            raise InvalidInput(
                f"{simulator} has no parameter {name!r}.",
                field=f"parameters.{name}",
                fix=suggest(name, known, "parameters"),
            )
    checked: dict[str, Value] = {}
    for definition in definitions:
        if definition.name in given:
            checked[definition.name] = _check(definition, given[definition.name], input_paths)
        elif definition.default is not None:
            checked[definition.name] = definition.default
        elif definition.required and complete:
            raise InvalidInput(
                "is required.",
                field=f"parameters.{definition.name}",
                fix=f"{definition.description} Give it as {definition.name}=VALUE.",
            )
    return checked


def check_commands(commands: Sequence[Command], runtime: RuntimeName | None, where: str = "commands") -> None:
    """Check the commands that a user wrote in the field `where`.

    Raises:
        InvalidInput: a command names no program, holds a NUL, or asks for a shell where there is no container.
    """
    for i, command in enumerate(commands):
        field = f"{where}.{i}"
        if not command.argv[0].strip():
            raise InvalidInput("names no program.", field=f"{field}.argv", fix="Put the program's name first.")
        if any("\0" in text for text in (*command.argv, *command.environment, *command.environment.values())):
            raise InvalidInput("holds a NUL character.", field=field, fix="Remove it.")
        if any(not name or "=" in name for name in command.environment):
            raise InvalidInput("has a variable without a proper name.", field=f"{field}.environment", fix="Rename it.")
        if command.shell and runtime is RuntimeName.NATIVE:
            raise InvalidInput(
                "a shell runs inside a container only, and the runtime native has none.",
                field=f"{field}.shell",
                fix="Write the command without a shell, or choose the runtime podman.",
            )
        if command.shell and len(command.argv) != 1:
            raise InvalidInput(
                "a shell takes one text.", field=f"{field}.argv", fix="Write the whole line as the one element."
            )


def _check(definition: Parameter, value: Value, input_paths: Collection[str]) -> Value:
    match definition.type:
        case ParameterType.FILE:
            return _check_file(definition, value, input_paths)
        case ParameterType.TEXT | ParameterType.CHOICE:
            text = _text(definition, value)
            if definition.choices and text not in definition.choices:
                raise _wrong(
                    definition, f"{text!r} is not one of the choices.", suggest(text, definition.choices, "choices")
                )
            return text
        case ParameterType.BOOLEAN:
            return _boolean(definition, value)
        case ParameterType.INTEGER | ParameterType.NUMBER:
            number = _number(definition, value)
            _check_range(definition, number)
            return number


def _check_file(definition: Parameter, value: Value, input_paths: Collection[str]) -> str:
    path = _text(definition, value)
    try:
        check_relative(path)
    except ValueError as error:
        raise _wrong(definition, f"{error}.", "Name a file below the input folder.") from None
    if path not in input_paths:
        raise _wrong(definition, f"there is no input file {path!r}.", suggest(path, input_paths, "input files"))
    return path


def _text(definition: Parameter, value: Value) -> str:
    if not isinstance(value, str):
        raise _wrong(definition, f"must be a text, not {value}.", "Write it in quotes.")
    if not value or "\0" in value:
        raise _wrong(definition, "must be a text that is not empty and holds no NUL.", definition.description)
    return value


def _boolean(definition: Parameter, value: Value) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise _wrong(definition, f"must be true or false, not {value!r}.", "Write true or false.")
    return value


def _number(definition: Parameter, value: Value) -> int | float:
    whole = definition.type is ParameterType.INTEGER
    number: int | float = math.nan
    with contextlib.suppress(ValueError, OverflowError):
        if whole and isinstance(value, str):
            number = int(value)
        elif not isinstance(value, bool):
            number = value if whole and isinstance(value, int) else float(value)
    if not -math.inf < number < math.inf or (whole and (number != int(number) or abs(number) >= _WHOLE)):
        wanted = "a whole number" if whole else "a number"
        raise _wrong(definition, f"must be {wanted}, not {str(value)[:_SHOWN]!r}.", definition.description)
    return int(number) if whole else number


def _check_range(definition: Parameter, number: float) -> None:
    low, high = definition.minimum, definition.maximum
    if (low is None or number >= low) and (high is None or number <= high):
        return
    if low is None:
        bounds = f"at most {high:g}"
    elif high is None:
        bounds = f"at least {low:g}"
    else:
        bounds = f"from {low:g} to {high:g}"
    raise _wrong(definition, f"{number:g} is out of range.", f"Give a value {bounds}.")


def _wrong(definition: Parameter, reason: str, fix: str) -> InvalidInput:
    return InvalidInput(reason, field=f"parameters.{definition.name}", fix=fix)
