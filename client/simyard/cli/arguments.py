"""Options of the form `name=value`, made into values of the right type."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.simulator import SimulatorInfo
    from simyard.task import Value

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_pairs(texts: Iterable[str], field: str, option: str) -> dict[str, str]:
    """Return the values by their names.

    Raises:
        InvalidInput: a text has no name or no `=`, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name:
            raise InvalidInput(f"{text!r} has no name and value.", field=field, fix=f"Write {option} name=value.")
        if name in found:
            raise InvalidInput("It is given twice.", field=f"{field}.{name}", fix="Give it once.")
        found[name] = value
    return found


def parse_parameters(texts: Iterable[str], simulator: SimulatorInfo, *, templates: bool = False) -> dict[str, Value]:
    """Return parameters with the types that the simulator says they have.

    Where `templates` may come, a text with `{{` stays as it is: what it is for a case is not known yet.

    Raises:
        InvalidInput: the simulator has no such parameter, or the text is not of its type.
    """
    known = {parameter.name: parameter for parameter in simulator.parameters}
    values: dict[str, Value] = {}
    for name, text in parse_pairs(texts, "parameters", "-p").items():
        if name not in known:
            raise InvalidInput(
                f"{simulator.name} has no such parameter.", field=f"parameters.{name}", fix=_nearest(name, known)
            )
        if templates and ("{{" in text or "{%" in text):
            values[name] = text
            continue
        values[name] = _READERS.get(known[name].type.value, _text)(text, f"parameters.{name}")
    return values


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"It has {', '.join(known)}." if known else "It has none."


def _text(text: str, _field: str) -> Value:
    return text


def _integer(text: str, field: str) -> Value:
    try:
        return int(text.replace("_", " "))
    except ValueError:
        raise InvalidInput(f"{text!r} is not a whole number.", field=field, fix="Write for example 3.") from None


def _number(text: str, field: str) -> Value:
    try:
        value = float(text.replace("_", " "))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(f"{text!r} is not a number.", field=field, fix="Write for example 2.5 or 1e-6.")
    return value


def _boolean(text: str, field: str) -> Value:
    if text.lower() not in _WORDS:
        raise InvalidInput(f"{text!r} is neither true nor false.", field=field, fix="Write true or false.")
    return _WORDS[text.lower()]


_READERS: dict[str, Callable[[str, str], Value]] = {"integer": _integer, "number": _number, "boolean": _boolean}
