"""The tasks of one request: what many of them have alike is validated once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json
from typing_extensions import TypedDict

from serve.admission import Own, Wanted
from serve.submissions import KEY
from simyard.task import Input, Metadata, TaskName, TaskSpec
from simyard.words import Word

_MOST = 256
"""How many kinds of tasks are remembered: where each task is of a kind of its own, more would gain nothing."""

Key = Annotated[str, StringConstraints(pattern=KEY)]
Inputs = tuple[Input, ...]


class BatchItem(Word):
    """One task of a batch."""

    spec: TaskSpec
    idempotency_key: Key | None = None
    """Sending the same key with the same request again gives the same task."""


# A model costs twice as much.
@with_config(Word.model_config)
class _Own(TypedDict, total=False):
    """What tasks that are alike may have of their own."""

    name: TaskName | None
    metadata: Metadata
    inputs: Inputs
    idempotency_key: Key | None


_check_own = TypeAdapter(_Own).validator.validate_python


class Items:
    """Makes the items of a request into what is wanted.

    Most tasks of a batch differ in their names, metadata and the contents of their files alone. Of those, one is
    validated whole, and of the others what is their own: no rule of a task's ties that to anything else.
    """

    def __init__(self) -> None:
        self._kinds: dict[bytes, TaskSpec] = {}
        self._inputs: dict[bytes, tuple[TaskSpec, Inputs]] = {}

    def wanted(self, item: object, validate: Callable[[], BatchItem]) -> Wanted:
        """Return what an item asks for; `validate` reads all of it where nothing like it has been seen.

        Raises:
            ValidationError: it is no item; it comes from `validate`, so it says what it would say of a lone one.
        """
        parts = _parts(item)
        if parts is not None:
            own, rest, inputs = parts
            # As JSON, in which 1, 1.0 and true are not the same.
            same = to_json((rest, inputs))
            known = self._inputs.get(same)
            if known is not None:
                return self._alike(own, *known) or _whole(validate())
            kind = to_json((rest, [_without_content(one) for one in inputs]))
            first = self._kinds.get(kind)
            if first is not None:
                return self._alike({**own, "inputs": inputs}, first) or _whole(validate())
            checked = _whole(validate())
            if len(self._kinds) < _MOST:
                self._kinds[kind] = checked.spec
                self._inputs[same] = checked.spec, checked.spec.inputs
            return checked
        return _whole(validate())

    def _alike(self, own: dict[str, Any], first: TaskSpec, inputs: Inputs = ()) -> Wanted | None:
        """Return a task like the first one; None where its own part is not valid."""
        try:
            found = _check_own(own)
        except ValidationError:
            return None
        own_part = Own(found.get("name"), found.get("metadata", {}), inputs or found.get("inputs", ()))
        return Wanted(first, found.get("idempotency_key"), own_part)


def _parts(item: object) -> tuple[dict[str, Any], dict[str, Any], list[object]] | None:
    """Return what an item has of its own, the rest of its spec, and its inputs; None where it is no item."""
    if not isinstance(item, dict):
        return None
    rest = item.get("spec")
    if not isinstance(rest, dict) or len(item) != 1 + ("idempotency_key" in item):
        return None
    rest = rest.copy()
    own = {name: rest.pop(name) for name in ("name", "metadata") if name in rest}
    inputs = rest.pop("inputs", None)
    if not isinstance(inputs, list):
        return None
    if "idempotency_key" in item:
        own["idempotency_key"] = item["idempotency_key"]
    return own, rest, inputs


def _without_content(one: object) -> object:
    if not isinstance(one, dict) or "sha256" not in one:
        return one
    # What is left out is named, so that a file with a size is not taken for one without.
    return {name: None if name in {"sha256", "size"} else value for name, value in one.items()}


def _whole(item: BatchItem) -> Wanted:
    return Wanted(spec=item.spec, key=item.idempotency_key)
