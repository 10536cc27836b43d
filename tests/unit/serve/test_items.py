"""What is read and admitted of tasks that are alike is what it would be of each by itself."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

import pytest

from serve.admission import Wanted, admit
from serve.items import BatchItem, Items
from simyard.task import TaskSpec
from simyard.words import checked_before
from storage.inputs import put_input
from storage.memory import MemoryStore as MemoryStorage
from tasks.memory import MemoryStore
from tasks.record import Draft

TOWN, PARIS = b"[TITLE]\na town\n", b"[TITLE]\nParis\n"


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage("items")


def item(storage: MemoryStorage, data: bytes = TOWN, key: str | None = None, **own: Any) -> dict[str, Any]:
    file = {"path": "town.inp", "sha256": put_input(storage, data), "size": len(data)}
    spec = {"simulator": "swmm", "inputs": [file], "parameters": {"input_file": "town.inp"}} | own
    return {"spec": spec} | ({} if key is None else {"idempotency_key": key})


def read(documents: Iterable[object]) -> list[Wanted]:
    items = Items()
    return [items.wanted(one, lambda one=one: BatchItem.model_validate(one)) for one in documents]  # type: ignore[misc]


def spec_of(one: Wanted) -> TaskSpec:
    """Return what was read of a task, whole."""
    return one.spec if one.own is None else checked_before(TaskSpec, {**one.spec.__dict__, **one.own._asdict()})


def test_what_is_read_and_admitted_is_the_same_as_of_each_alone(storage: MemoryStorage) -> None:
    texts = ['größe "%s"\n\\', "\U0001f30a", "x" * 200]
    values = [1, True, 1.0, 0, False, -0.0, "1", "%", 1e22, 2**70, 0.1]
    documents = [
        item(storage),
        *[item(storage, name=text, metadata={"b": text[:9], "a": 1}) for text in texts],
        *[item(storage, metadata={"case": value}, key=f"k{i}") for i, value in enumerate(values)],
        item(storage, name=None, metadata={}, key="%s"),
        *[item(storage, data, name=f"n{i}") for i, data in enumerate([PARIS, TOWN, PARIS, b""])],
    ]
    found, store = read(documents), MemoryStore()
    assert sum(one.own is not None for one in found) == len(documents) - 1
    whole = [BatchItem.model_validate_json(json.dumps(one)) for one in documents]
    read_specs = [spec_of(one) for one in found]
    assert [(spec, one.key) for spec, one in zip(read_specs, found, strict=True)] == [
        (one.spec, one.idempotency_key) for one in whole
    ]
    assert [spec.model_dump_json() for spec in read_specs] == [one.spec.model_dump_json() for one in whole]
    together = admit(found, "ada", None, storage, store)
    for one, draft in zip(whole, together, strict=True):
        [alone] = admit([Wanted(spec=one.spec, key=one.idempotency_key)], "ada", None, storage, store)
        assert isinstance(draft, Draft)
        assert isinstance(alone, Draft)
        assert (draft.spec, draft.digest, draft.fingerprint) == (alone.spec, alone.digest, alone.fingerprint)
        assert draft.spec.model_dump_json() == alone.spec.model_dump_json()


@pytest.mark.parametrize(
    "other",
    [
        {"resources": {"cpus": 1.0}},
        {"resources": {"cpus": True}},
        {"parameters": {"n": 1}},
        {"project": "p"},
        {"limits": {"run": None}},
    ],
)
def test_what_only_equals_in_python_is_not_alike(storage: MemoryStorage, other: dict[str, Any]) -> None:
    first, second = read([item(storage, resources={"cpus": 1}), item(storage, **other)])
    assert first.own is None
    assert second.own is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: one.update(name="x"),
        lambda one: one.update(idempotency_key="a b"),
        lambda one: one["spec"].update(name=""),
        lambda one: one["spec"].update(metadata={"a": float("nan")}),
        lambda one: one["spec"].update(metadata={"a b": 1}),
        lambda one: one["spec"].update(metadata={f"m{i}": i for i in range(101)}),
        lambda one: one["spec"].update(metadata=None),
        lambda one: one["spec"]["inputs"][0].update(size=-1),
        lambda one: one["spec"]["inputs"][0].update(sha256="A"),
        lambda one: one["spec"]["inputs"][0].pop("size"),
        lambda one: one["spec"].pop("inputs"),
        lambda one: one["spec"].update(inputs={}),
    ],
)
def test_a_bad_one_among_alike_ones_is_refused_as_if_it_were_alone(storage: MemoryStorage, spoil: Any) -> None:
    good = item(storage, name="one")
    bad = copy.deepcopy(good)
    spoil(bad)
    items = Items()
    items.wanted(good, lambda: BatchItem.model_validate(good))
    with pytest.raises(ValueError, match="BatchItem") as together:
        items.wanted(bad, lambda: BatchItem.model_validate(bad))
    with pytest.raises(ValueError, match="BatchItem") as alone:
        BatchItem.model_validate(bad)
    assert str(together.value) == str(alone.value)
    assert items.wanted(good, lambda: BatchItem.model_validate(good)).own is not None


def test_of_alike_ones_each_is_checked_for_what_is_its_own(storage: MemoryStorage) -> None:
    absent = item(storage, b"absent")
    absent["spec"]["inputs"][0] |= {"sha256": "0" * 64}
    wrong = item(storage)
    wrong["spec"]["inputs"][0] |= {"size": 3}
    found = read([item(storage), absent, item(storage, name="a\0"), wrong, item(storage, name="last")])
    admitted = admit(found, "ada", None, storage, MemoryStore())
    fields = [None if isinstance(one, Draft) else one.field for one in admitted]
    assert fields == [None, "inputs", "name", "inputs.0.size", None]


@pytest.mark.parametrize("own", [{"name": "a\0"}, {"metadata": {"note": "a\0"}}])
def test_a_first_one_that_is_bad_by_what_is_its_own_sinks_no_other(storage: MemoryStorage, own: dict[str, Any]) -> None:
    found = read([item(storage, **own), item(storage, name="good"), item(storage), item(storage, **own)])
    admitted = admit(found, "ada", None, storage, MemoryStore())
    assert [isinstance(one, Draft) for one in admitted] == [False, True, True, False]
    assert [one.spec.name for one in admitted if isinstance(one, Draft)] == ["good", None]


def test_what_is_wrong_with_the_first_is_wrong_with_all_that_are_like_it(storage: MemoryStorage) -> None:
    found = read([item(storage, simulator="swim", name=name) for name in ("one", "two")])
    first, second = admit(found, "ada", None, storage, MemoryStore())
    assert not isinstance(first, Draft)
    assert not isinstance(second, Draft)
    assert (first.field, second.field) == ("simulator", "simulator")
