"""Uploads of input files in parts, received by the API or signed."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from storage.errors import InputDamaged, InvalidKey, UploadIncomplete
from storage.inputs import stored_sizes
from storage.objects import ObjectStore
from storage.paths import Paths
from storage.uploads import PART_SIZE, UploadPlan, complete_upload, plan_upload, sweep_uploads, write_part


def _send(store: ObjectStore, plan: UploadPlan, data: bytes, numbers: set[int] | None = None) -> dict[int, str]:
    etags = {}
    for part in plan.parts:
        if numbers is not None and part.number not in numbers:
            continue
        body = data[(part.number - 1) * plan.part_size :][: part.size]
        if part.url is None:
            write_part(store, plan.sha256, part.number, body)
        else:
            # Without a type of its own urllib declares a form, which moto would then parse.
            headers = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request(part.url, data=body, headers=headers, method="PUT")
            with urllib.request.urlopen(request, timeout=60) as answer:
                etags[part.number] = answer.headers["ETag"]
    return etags


@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1])
def test_an_upload_becomes_an_input(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    sha256 = hashlib.sha256(data).hexdigest()
    plan = plan_upload(store, sha256, size, 60)
    assert sum(part.size for part in plan.parts) == size
    etags = _send(store, plan, data)
    assert stored_sizes(store, [sha256]) == {sha256: None}
    complete_upload(store, sha256, size, plan.upload, etags)
    complete_upload(store, sha256, size, plan.upload, etags)
    assert store.get(Paths.input(sha256)) == data
    assert list(store.list(Paths.uploads())) == []


def test_a_broken_off_upload_goes_on_with_what_is_missing(store: ObjectStore) -> None:
    data = os.urandom(2 * PART_SIZE + 5)
    sha256 = hashlib.sha256(data).hexdigest()
    first = plan_upload(store, sha256, len(data), 60)
    assert [part.number for part in first.parts] == [1, 2, 3]
    _send(store, first, data, {1, 3})
    with pytest.raises(UploadIncomplete):
        complete_upload(store, sha256, len(data), first.upload, {})
    second = plan_upload(store, sha256, len(data), 60)
    assert second.upload == first.upload
    assert [part.number for part in second.parts] == [2]
    etags = _send(store, second, data)
    complete_upload(store, sha256, len(data), second.upload, etags)
    assert store.get(Paths.input(sha256)) == data


@pytest.mark.parametrize("size", [9, PART_SIZE + 9])
def test_wrong_bytes_never_become_an_input(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    sha256 = hashlib.sha256(data).hexdigest()
    plan = plan_upload(store, sha256, size, 60)
    etags = _send(store, plan, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputDamaged):
        complete_upload(store, sha256, size, plan.upload, etags)
    assert stored_sizes(store, [sha256]) == {sha256: None}
    again = plan_upload(store, sha256, size, 60)
    assert [part.number for part in again.parts] == [part.number for part in plan.parts]
    complete_upload(store, sha256, size, again.upload, _send(store, again, data))
    assert store.get(Paths.input(sha256)) == data


def test_completing_what_never_arrived_is_refused(store: ObjectStore) -> None:
    with pytest.raises(UploadIncomplete):
        complete_upload(store, "0" * 64, 5, None, {})


def test_old_uploads_are_swept(dated_store: ObjectStore) -> None:
    store = dated_store
    data = os.urandom(PART_SIZE + 1)
    sha256 = hashlib.sha256(data).hexdigest()
    plan = plan_upload(store, sha256, len(data), 60)
    _send(store, plan, data, {1})
    assert sweep_uploads(store, datetime.now(UTC) - timedelta(hours=1)) == 0
    assert sweep_uploads(store, datetime.now(UTC) + timedelta(hours=1)) == 1
    assert len(plan_upload(store, sha256, len(data), 60).parts) == 2


def test_a_part_has_bounds(store: ObjectStore) -> None:
    for number, data in ((0, b""), (100_000, b""), (1, b"x" * (PART_SIZE + 1))):
        with pytest.raises(InvalidKey):
            write_part(store, "0" * 64, number, data)
