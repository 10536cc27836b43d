"""The base that every type of Simyard's vocabulary shares, and the ids."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Annotated, Any, NewType, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from simyard.described import texts_below

TaskId = NewType("TaskId", str)
SweepId = NewType("SweepId", str)
AttemptNumber = NewType("AttemptNumber", int)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""A name that is safe in a key, a label and a URL: letters, digits, dots, dashes and underscores, at most 63."""

Moment = AwareDatetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(one + other for other in _ALPHABET for one in _ALPHABET)


class Word(BaseModel):
    """A frozen value that refuses unknown fields."""

    def __eq__(self, other: object) -> bool:
        """Say whether both are the same; a field at its default is the default itself, which is seen at once."""
        return self is other or super().__eq__(other)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Take what an earlier release has pickled: a field that it did not know has its default."""
        super().__setstate__(state)
        for name, field in type(self).model_fields.items():
            if name not in self.__dict__ and not field.is_required():
                self.__dict__[name] = field.get_default(call_default_factory=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema, in which the texts below the fields describe them.

        Pydantic can do so too, but reads the sources whenever a class is made, which is a fifth of a process's imports.
        """
        schema = handler(core)
        fields = handler.resolve_ref_schema(schema).get("properties", {})
        for kind in cls.__mro__[: cls.__mro__.index(Word) + 1]:
            for name in fields.keys() & texts_below(kind).keys():
                fields[name].setdefault("description", texts_below(kind)[name])
        return schema

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


AnyWord = TypeVar("AnyWord", bound=Word)


@cache
def _all_fields(kind: type[Word]) -> set[str]:
    return set(kind.model_fields)


def checked_before(kind: type[AnyWord], fields: dict[str, Any]) -> AnyWord:
    """Return a word of values that were checked before, for all its fields in their order; ours to keep.

    It is what `model_construct` gives, in a tenth of the time.
    """
    made = kind.__new__(kind)
    for name, value in (
        ("__dict__", fields),
        # One set for all: nobody changes a frozen word's, and a copy of the word has a copy of it.
        ("__pydantic_fields_set__", _all_fields(kind)),
        ("__pydantic_extra__", None),
        ("__pydantic_private__", None),
    ):
        object.__setattr__(made, name, value)
    return made


def new_task_id() -> TaskId:
    """Return a fresh task id: `t` and 12 characters of Crockford's base 32, 60 random bits."""
    return new_task_ids(1)[0]


def new_task_ids(count: int) -> list[TaskId]:
    """Return so many fresh task ids, with one question to the system for random bits."""
    bits = memoryview(secrets.token_bytes(8 * count)).cast("Q")
    pairs = _PAIRS
    return [
        TaskId(
            f"t{pairs[n & 1023]}{pairs[n >> 10 & 1023]}{pairs[n >> 20 & 1023]}"
            f"{pairs[n >> 30 & 1023]}{pairs[n >> 40 & 1023]}{pairs[n >> 50 & 1023]}"
        )
        for n in bits
    ]


TaskIdText = Annotated[str, StringConstraints(pattern=r"^t[0-9a-hjkmnp-tv-z]{12}$"), Field(examples=["t3k9x0m2v7q4a"])]


def new_sweep_id() -> SweepId:
    """Return a fresh sweep id: `s` and 12 characters of Crockford's base 32, 60 random bits."""
    return SweepId("s" + "".join(secrets.choice(_ALPHABET) for _ in range(12)))


SweepIdText = Annotated[str, StringConstraints(pattern=r"^s[0-9a-hjkmnp-tv-z]{12}$"), Field(examples=["s3k9x0m2v7q4a"])]
