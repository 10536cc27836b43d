"""What every storage does alike."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.errors import AlreadyExists, InvalidKey, ObjectNotFound
from storage.objects import ObjectStore

ODD_KEYS = [
    "a b/c d",
    "per%20cent/%/100%",
    "quotes'\"`",
    "ünï/日本語/😀",
    "a=b+c&d;e,f",
    "back\\slash",
    "#?*[x]{}~^|<>!$()@:",
    "\u2028line",
    " leading/trailing ",
    ".hidden/..dots/...",
    "x" * 255,
]
BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "a/../b",
    "..",
    "a/.",
    "a\nb",
    "a\0b",
    "\x7f",
    "a\udcff",
    "x" * 1025,
    "x" * 256,
]


def test_what_is_put_is_got(store: ObjectStore) -> None:
    for data in (b"", b"x", os.urandom(3_000_000)):
        store.put("folder/thing", data)
        assert store.get("folder/thing") == data
        assert b"".join(store.stream("folder/thing", chunk=100_000)) == data


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_odd_keys_keep_their_names(store: ObjectStore, key: str) -> None:
    store.put(key, b"here")
    found = store.head(key)
    assert found is not None
    assert found.key == key
    assert store.get(key) == b"here"
    assert [info.key for info in store.list("")] == [key]
    store.delete([key])
    assert store.head(key) is None


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_bad_keys_are_refused_everywhere(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidKey):
        store.put(key, b"")
    with pytest.raises(InvalidKey):
        store.get(key)
    with pytest.raises(InvalidKey):
        store.head(key)
    with pytest.raises(InvalidKey):
        store.delete([key])


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (8, 100, b"89"),
        (0, 0, b""),
        (4, 0, b""),
        (10, None, b""),
        (10, 5, b""),
        (99, None, b""),
        (99, 5, b""),
        (99, 0, b""),
    ],
)
def test_a_range_gives_what_the_object_has_of_it(
    store: ObjectStore, start: int, length: int | None, expected: bytes
) -> None:
    store.put("ten", b"0123456789")
    assert store.get("ten", start, length) == expected
    assert b"".join(store.stream("ten", start, length, chunk=3)) == expected


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 10), (5, None), (0, 0)])
def test_an_empty_object_is_empty_in_every_range(store: ObjectStore, start: int, length: int | None) -> None:
    store.put("empty", b"")
    assert store.get("empty", start, length) == b""


def test_a_negative_range_is_refused(store: ObjectStore) -> None:
    store.put("ten", b"0123456789")
    for start, length in ((-1, None), (0, -1)):
        with pytest.raises(InvalidKey):
            store.get("ten", start, length)


def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    store.put("a", b"")
    assert store.head("nothing") is None
    assert store.head("a/below") is None
    for start, length in ((0, None), (5, None), (0, 5), (5, 0)):
        with pytest.raises(ObjectNotFound):
            store.get("nothing", start, length)
        with pytest.raises(ObjectNotFound):
            store.stream("nothing", start, length)
    assert list(store.list("nothing")) == []
    store.delete(["nothing", "no/thing", "a/below"])
    assert store.get("a") == b""


def test_a_folder_is_no_object(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    assert store.head("a") is None
    with pytest.raises(ObjectNotFound):
        store.get("a")
    store.delete(["a"])
    assert store.get("a/b") == b"1"


def test_a_file_and_pieces_are_bodies_too(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(40 * 1024 * 1024)
    (tmp_path / "file").write_bytes(data)
    store.put("file", tmp_path / "file")
    store.put("pieces", (data[i : i + 777_777] for i in range(0, len(data), 777_777)), size=len(data))
    store.put("few pieces", iter([b"a", b"", b"b"]))
    store.put("no pieces", iter([]))
    for key, expected in {"file": data, "pieces": data, "few pieces": b"ab", "no pieces": b""}.items():
        found = store.head(key)
        assert found is not None
        assert found.size == len(expected)
        assert store.get(key) == expected


class TornError(Exception):
    pass


@pytest.mark.parametrize("length", [100, 20_000_000, 40_000_000])
@pytest.mark.parametrize("error", [TornError, FileNotFoundError, OSError])
def test_a_body_that_breaks_leaves_the_old_object(store: ObjectStore, length: int, error: type[Exception]) -> None:
    def torn() -> Iterator[bytes]:
        for _ in range(0, length, 1_000_000):
            yield b"x" * min(length, 1_000_000)
        raise error("torn")

    with pytest.raises(error, match="torn"):
        store.put("new", torn())
    assert store.head("new") is None
    store.put("old", b"old")
    with pytest.raises(error, match="torn"):
        store.put("old", torn())
    assert store.get("old") == b"old"
    assert [info.key for info in store.list("")] == ["old"]


def test_a_second_put_replaces(store: ObjectStore) -> None:
    store.put("a", b"first, and longer")
    store.put("a", b"second")
    assert store.get("a") == b"second"


def test_only_the_first_create_succeeds(store: ObjectStore) -> None:
    store.put("a", b"first", create=True)
    with pytest.raises(AlreadyExists):
        store.put("a", iter([b"second"]), create=True)
    assert store.get("a") == b"first"
    store.delete(["a"])
    store.put("a", iter([b"third"]), create=True)
    assert store.get("a") == b"third"


def test_of_racing_creators_exactly_one_wins(atomic_store: ObjectStore) -> None:
    for number in range(10):
        key, gate = f"races/{number}", threading.Barrier(8)

        def create(racer: int, key: str = key, gate: threading.Barrier = gate) -> int | None:
            gate.wait(20)
            try:
                atomic_store.put(key, b"%d" % racer * 1000, create=True)
            except AlreadyExists:
                return None
            return racer

        with ThreadPoolExecutor(8) as pool:
            winners = [racer for racer in pool.map(create, range(8)) if racer is not None]
        assert len(winners) == 1
        assert atomic_store.get(key) == b"%d" % winners[0] * 1000


def test_a_listing_gives_what_is_below_a_folder(store: ObjectStore) -> None:
    for key in ("a/b/1", "a/b/2", "a/b/c/3", "a/bc/4", "a/b5", "d"):
        store.put(key, b"x" * len(key))
    assert {info.key: info.size for info in store.list("a/b")} == {"a/b/1": 5, "a/b/2": 5, "a/b/c/3": 7}
    assert {info.key for info in store.list("a")} == {"a/b/1", "a/b/2", "a/b/c/3", "a/bc/4", "a/b5"}
    assert len(list(store.list(""))) == 6
    assert list(store.list("d")) == []
    modified = [info.modified for info in store.list("")]
    assert all(abs(moment - datetime.now(UTC)) < timedelta(minutes=5) for moment in modified)


def test_many_objects_are_deleted_at_once(store: ObjectStore) -> None:
    keys = [f"many/{number} %" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    store.put("kept", b"")
    store.delete(iter(keys))
    assert [info.key for info in store.list("")] == ["kept"]


def test_a_signed_url_gives_the_object_by_range(signing_store: ObjectStore) -> None:
    signing_store.put("a b/100%.bin", b"0123456789")
    url = signing_store.sign_get("a b/100%.bin", 60)
    assert url is not None
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=2-4"}), timeout=20) as answer:
        assert (answer.status, answer.read()) == (206, b"234")


def test_stores_that_cannot_sign_say_so(tmp_path: Path) -> None:
    from storage.objects import open_store

    for store in (open_store(tmp_path.as_uri()), open_store("memory://signing")):
        store.put("a", b"")
        assert store.sign_get("a", 60) is None
        assert store.multiparts() is None
