"""Inputs that a machine keeps: fetched once, checked, bounded, and never in anybody's way."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import kept_inputs as module
from storage.errors import Stopped, StorageUnavailable
from storage.kept_inputs import Disk, KeptInputs, kept_bytes

ROOMY = Disk(10**9, 0, 10**9)
BLOCK = 4096


class Source:
    """A storage that counts what is fetched of it."""

    def __init__(self, data: bytes = b"mesh") -> None:
        self.data, self.fetched = data, 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def fetch(self) -> Iterator[bytes]:
        self.fetched += 1
        yield self.data


def take(kept: KeptInputs, source: Source) -> bytes | None:
    """Return what is lent; None where nothing is."""
    lent = kept.borrow(source.sha256, len(source.data), source.fetch)
    if lent is None:
        return None
    with closing(lent):
        return os.pread(lent.descriptor, len(source.data) + 1, 0)


def names(folder: Path) -> list[str]:
    """Return what is kept, the least recently used first."""
    [boot] = folder.iterdir()
    return [path.name for path in sorted(boot.iterdir(), key=lambda path: path.stat().st_mtime_ns)]


def many(count: int) -> list[Source]:
    """Return sources of one block each."""
    return [Source(bytes([number]) * BLOCK) for number in range(count)]


def aged(folder: Path) -> None:
    """Set the times at which entries were used apart, in the order that they have."""
    [boot] = folder.iterdir()
    for moment, name in enumerate(names(folder)):
        os.utime(boot / name, ns=(moment, moment))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "inputs"


@pytest.fixture
def kept(folder: Path) -> KeptInputs:
    return KeptInputs(folder, 10**9, disk=lambda _: ROOMY)


def test_what_was_fetched_is_not_fetched_again_not_even_by_another_process(kept: KeptInputs, folder: Path) -> None:
    source = Source()
    assert take(kept, source) == take(kept, source) == b"mesh"
    # As after a restart of the server.
    assert take(KeptInputs(folder, 10**9), source) == b"mesh"
    assert source.fetched == 1


def test_nobody_else_reads_or_changes_an_entry(kept: KeptInputs, folder: Path) -> None:
    take(kept, Source())
    [boot] = folder.iterdir()
    [entry] = boot.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (folder, boot, entry)] == [0o700, 0o700, 0o400]


def test_of_two_who_want_it_at_once_one_fetches_it(kept: KeptInputs) -> None:
    begun, go_on = threading.Event(), threading.Event()
    source, found = Source(), []

    def slow() -> Iterator[bytes]:
        begun.set()
        yield b"me"
        assert go_on.wait(20)
        yield b"sh"

    def first() -> None:
        found.append(kept.borrow(source.sha256, 4, slow))

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(20)
    looks = iter([False, False, True])

    def waiting() -> bool:
        # Not before it has looked twice, and waited in between.
        if next(looks, False):
            go_on.set()
        return False

    lent = kept.borrow(source.sha256, 4, source.fetch, waiting)
    thread.join()
    assert lent is not None and not lent.was_fetched and source.fetched == 0
    assert found[0] is not None and found[0].was_fetched
    lent.close()
    found[0].close()


def test_nobody_waits_for_one_who_brings_nothing(kept: KeptInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STILL_SECONDS", 0.05)
    source, others = Source(), []

    def still() -> Iterator[bytes]:
        others.append(kept.borrow(source.sha256, 4, source.fetch))
        yield b"mesh"

    lent = kept.borrow(source.sha256, 4, still)
    assert others == [None] and lent is not None
    lent.close()


def test_who_waits_may_be_stopped(kept: KeptInputs) -> None:
    source, looks = Source(), iter([False, True])

    def still() -> Iterator[bytes]:
        with pytest.raises(Stopped):
            kept.borrow(source.sha256, 4, source.fetch, lambda: next(looks))
        yield b"mesh"

    lent = kept.borrow(source.sha256, 4, still)
    assert lent is not None
    lent.close()


def test_what_breaks_off_leaves_nothing(kept: KeptInputs, folder: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"me"
        raise StorageUnavailable

    source = Source()
    with pytest.raises(StorageUnavailable):
        kept.borrow(source.sha256, 4, broken)
    assert names(folder) == []
    assert take(kept, source) == b"mesh"


def test_one_who_is_killed_while_it_fetches_is_replaced(kept: KeptInputs, folder: Path) -> None:
    source = Source()
    program = (
        "import sys, time; from pathlib import Path; from storage.kept_inputs import KeptInputs\n"
        "def fetch():\n    yield b'me'\n    print('half', flush=True)\n    time.sleep(600)\n"
        "KeptInputs(Path(sys.argv[1]), 10**9).borrow(sys.argv[2], 4, fetch)"
    )
    argv = [sys.executable, "-c", program, str(folder), source.sha256]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        looks = iter([False, False, True])

        def waiting() -> bool:
            if next(looks, False):
                process.send_signal(signal.SIGKILL)
            return False

        lent = kept.borrow(source.sha256, 4, source.fetch, waiting)
    assert lent is not None and lent.was_fetched
    assert os.pread(lent.descriptor, 10, 0) == b"mesh"
    lent.close()
    assert names(folder) == [f"{source.sha256}-4"]


def test_an_entry_that_was_cut_off_is_fetched_again(kept: KeptInputs, folder: Path) -> None:
    source = Source()
    take(kept, source)
    [boot] = folder.iterdir()
    [entry] = boot.iterdir()
    entry.chmod(0o600)
    os.truncate(entry, 2)
    assert take(kept, source) == b"mesh"
    assert source.fetched == 2


def test_what_another_boot_left_is_not_used_and_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = many(3)
    monkeypatch.setattr(module, "_boot", lambda: "earlier")
    take(KeptInputs(folder, 2 * BLOCK, disk=lambda _: ROOMY), one)
    [half] = (folder / "earlier").iterdir()
    os.utime(half, ns=(0, 0))
    monkeypatch.setattr(module, "_boot", lambda: "now")
    kept = KeptInputs(folder, 2 * BLOCK, disk=lambda _: ROOMY)
    assert (take(kept, one), one.fetched) == (one.data, 2)
    assert kept_bytes(folder) == 2 * BLOCK
    take(kept, two)
    assert not half.exists()
    take(kept, three)
    assert kept_bytes(folder) == 2 * BLOCK
    assert kept_bytes(folder / "absent") == 0


def test_the_least_recently_used_goes_first(folder: Path) -> None:
    kept = KeptInputs(folder, 3 * BLOCK, disk=lambda _: ROOMY)
    one, two, three, four = many(4)
    for source in (one, two, three):
        take(kept, source)
    aged(folder)
    take(kept, one)
    take(kept, four)
    assert names(folder) == [f"{source.sha256}-{BLOCK}" for source in (three, one, four)]


def test_what_is_lent_stays(folder: Path) -> None:
    kept = KeptInputs(folder, 2 * BLOCK, disk=lambda _: ROOMY)
    one, two, three = many(3)
    lent = kept.borrow(one.sha256, BLOCK, one.fetch)
    assert lent is not None
    take(kept, two)
    aged(folder)
    take(kept, three)
    assert names(folder) == [f"{source.sha256}-{BLOCK}" for source in (one, three)]
    kept.clear()
    assert names(folder) == [f"{one.sha256}-{BLOCK}"]
    lent.close()
    assert kept.clear()
    assert not kept.clear()
    assert names(folder) == []


@pytest.mark.parametrize(
    ("limit", "disk"),
    [
        (BLOCK - 1, ROOMY),
        (10**9, Disk(4 * BLOCK - 1, 0, 4 * BLOCK - 1)),
        # Of a hundred blocks ten are left free.
        (10**9, Disk(100 * BLOCK, 0, 11 * BLOCK - 1)),
    ],
)
def test_what_does_not_fit_is_not_kept(folder: Path, limit: int, disk: Disk) -> None:
    kept = KeptInputs(folder, limit, disk=lambda _: disk)
    [source] = many(1)
    assert take(kept, source) is None
    assert source.fetched == 0
    assert names(folder) == []


def test_there_are_not_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    kept = KeptInputs(folder, 10**9, disk=lambda _: ROOMY)
    for source in many(5):
        take(kept, source)
    assert len(names(folder)) == 2


def test_it_gives_way_until_a_tenth_of_the_disk_is_free(folder: Path) -> None:
    free = 100 * BLOCK
    kept = KeptInputs(folder, 10**9, disk=lambda _: Disk(100 * BLOCK, 0, free))
    sources = many(4)
    for source in sources:
        take(kept, source)
    aged(folder)
    free = 10 * BLOCK
    kept.give_way()
    assert len(names(folder)) == 4
    free = 8 * BLOCK
    kept.give_way()
    assert names(folder) == [f"{source.sha256}-{BLOCK}" for source in sources[2:]]


def test_a_disk_that_fails_keeps_nothing_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inputs").write_text("in the way")
    kept = KeptInputs(tmp_path / "inputs", 10**9)
    assert take(kept, Source()) is None
    kept.give_way()
    assert "inputs" in caplog.text


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
def test_whatever_is_asked_for_the_right_bytes_come_and_the_bound_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    folder, sources = tmp_path_factory.mktemp("kept"), many(10)
    kept = KeptInputs(folder, 4 * BLOCK, disk=lambda _: ROOMY)
    for number, is_cleared in steps:
        assert take(kept, sources[number]) == sources[number].data
        assert kept_bytes(folder) <= 4 * BLOCK
        if is_cleared:
            kept.clear()


def test_many_at_once_fetch_each_once(kept: KeptInputs) -> None:
    sources = many(8)
    counts: list[int] = []

    def counted(source: Source) -> Callable[[], Iterable[bytes]]:
        def fetch() -> Iterator[bytes]:
            counts.append(source.data[0])
            yield source.data

        return fetch

    def work() -> None:
        for source in sources:
            lent = kept.borrow(source.sha256, BLOCK, counted(source))
            assert lent is not None
            with closing(lent):
                assert os.pread(lent.descriptor, BLOCK, 0) == source.data

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == list(range(8))
