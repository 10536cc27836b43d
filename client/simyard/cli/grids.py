"""Grids as they are written on a command line: `name=10,15,20` and `name=0:10:2`."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from simyard.cli.arguments import parse_pairs
from simyard.errors import InvalidInput

if TYPE_CHECKING:
    from simyard.task import Value

_RANGE = "Write start:stop:step, such as 0:10:2, which is 0, 2, 4, 6, 8 and 10."


def parse_grid(texts: Iterable[str]) -> dict[str, list[Value]]:
    """Return the values of each parameter; a range ends with its stop where the steps meet it.

    Raises:
        InvalidInput: a text has no name or no values, a value is empty, a range cannot be, or it has too many values.
    """
    return {name: _values(text, f"grid.{name}") for name, text in parse_pairs(texts, "grid", "--grid").items()}


def _values(text: str, field: str) -> list[Value]:
    from simyard.cases import values_of

    if not text.strip():
        raise InvalidInput("It has no values.", field=field, fix="Give some, such as 10,15,20 or 0:10:2.")
    if "," not in text and text.count(":") in {1, 2}:
        numbers = [_decimal(part, field) for part in text.split(":")]
        return _range(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else Decimal(1), field)
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        fix = "Remove the comma that has nothing beside it."
        raise InvalidInput("One of its values is empty.", field=field, fix=fix)
    return values_of(parts)


def _decimal(text: str, field: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise InvalidInput(f"{text!r} is no number.", field=field, fix=_RANGE) from None
    if not number.is_finite() or not -30 < number.adjusted() < 30:
        raise InvalidInput(f"{text!r} is no usual number.", field=field, fix=_RANGE)
    return number


def _range(start: Decimal, stop: Decimal, step: Decimal, field: str) -> list[Value]:
    from simyard.cases import MAX_CASES

    if step == 0 or (stop - start) / step < 0:
        raise InvalidInput("The range leads nowhere.", field=field, fix=_RANGE)
    steps = (stop - start) / step
    if steps >= MAX_CASES:
        reason = f"The range has more values than a sweep takes cases: {MAX_CASES:,}."
        raise InvalidInput(reason, field=field, fix="Give a larger step.")
    found = [start + step * i for i in range(int(steps) + 1)]
    whole = all(number == number.to_integral_value() for number in (start, step))
    return [int(number) if whole else float(number) for number in found]
