from __future__ import annotations

import hashlib
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from simyard import errors
from simyard.download import GAP, Download, Downloaded, plan
from simyard.files import Codec, ManifestEntry
from simyard.progress import Transferred
from tests.unit.client.wire import STORAGE, Connection, connection

TASK = "t0123456789ab"
MTIME = 1_700_000_000_123_456_789


def _deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush()


@dataclass
class FakeOutputs:
    """The output side of the API; objects lie at another origin and take ranges."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    """Files that are not compressed."""
    break_after: int | None = None
    """Bytes after which the first answer of an object breaks off."""
    expire_first: bool = False
    takes_ranges: bool = True

    def __post_init__(self) -> None:
        self.ranges: list[str] = []
        self.listings = 0
        self.headers: list[httpx.Headers] = []
        self.pack = b"PK local header"
        self.entries: list[dict[str, Any]] = []
        for path, data in self.files.items():
            codec = "stored" if path in self.stored else "deflate"
            raw = data if codec == "stored" else _deflated(data)
            self._add(path, size=len(data), sha256=hashlib.sha256(data).hexdigest(), codec=codec, length=len(raw))
            self.pack += raw + b"next header"
        for path, link in self.links.items():
            self.entries.append({"path": path, "size": 0, "mtime_ns": MTIME, "mode": 0o777, "link": link})

    def _add(self, path: str, **about: Any) -> None:
        own = {"kind": "log"} if path.startswith(".simyard/") else {}
        where = {"path": path, "mtime_ns": MTIME, "mode": 0o640, "object": "pack-0000.zip", "offset": len(self.pack)}
        self.entries.append(where | own | about)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == f"/v1/tasks/{TASK}/outputs":
            self.listings += 1
            url = f"{STORAGE}/pack?generation={self.listings}"
            body = {"attempt": 1, "entries": self.entries, "objects": {"pack-0000.zip": {"url": url, "size": 1}}}
            return httpx.Response(200, json=body)
        assert request.url.path == "/pack"
        self.headers.append(request.headers)
        if self.expire_first and request.url.params["generation"] == "1":
            return httpx.Response(403)
        return self._object(request.headers["Range"])

    def _object(self, wanted: str) -> httpx.Response:
        self.ranges.append(wanted)
        first, last = (int(text) for text in wanted.removeprefix("bytes=").split("-"))
        if not self.takes_ranges:
            return httpx.Response(200, stream=_Stream([self.pack]))
        data = self.pack[first : last + 1]
        if self.break_after is not None:
            cut, self.break_after = self.break_after, None
            return httpx.Response(206, stream=_Stream([data[:cut], httpx.ReadError("gone")]))
        return httpx.Response(206, stream=_Stream([data[i : i + 1000] for i in range(0, len(data), 1000)]))


class _Stream(httpx.SyncByteStream):
    def __init__(self, steps: list[bytes | Exception] | list[bytes]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            yield step


def _fetch(server: FakeOutputs, folder: Path, **options: Any) -> Downloaded:
    return Download(_connection(server), TASK, folder, **options).run()


def _connection(server: FakeOutputs) -> Connection:
    return connection(server)


FILES = {
    "a b.csv": b"1,2\n" * 3000,
    "deep/er/größe\n☃.dat": bytes(range(256)) * 50,
    "empty.txt": b"",
    ".simyard/stdout.log": b"printed\n",
}


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_files_come_whole_with_their_modes_and_times_by_one_range(tmp_path: Path) -> None:
    server, told = FakeOutputs(FILES, stored={"empty.txt"}), list[Transferred]()
    done = _fetch(server, tmp_path / "new" / "out", progress=told.append)
    out = tmp_path / "new" / "out"
    assert {name: (out / name).read_bytes() for name in FILES} == FILES
    assert _names(out) == set(FILES)
    found = (out / "a b.csv").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, MTIME)
    assert len(server.ranges) == 1
    assert "Authorization" not in server.headers[0]
    assert set(done.files) == set(FILES)
    assert (told[-1].files, told[-1].bytes) == (4, sum(map(len, FILES.values())))


@pytest.mark.parametrize("after", [0, 1, 40, 150])
def test_a_break_is_resumed_at_its_byte(tmp_path: Path, after: int) -> None:
    server = FakeOutputs(FILES, break_after=after)
    _fetch(server, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    first, second = (int(text.removeprefix("bytes=").split("-")[0]) for text in server.ranges)
    assert second == first + after


def test_a_server_without_ranges_works_too(tmp_path: Path) -> None:
    _fetch(FakeOutputs(FILES, takes_ranges=False), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES


def test_expired_addresses_are_asked_for_again(tmp_path: Path) -> None:
    server = FakeOutputs(FILES, expire_first=True)
    _fetch(server, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    assert server.listings == 2


def test_what_is_there_with_the_same_bytes_is_not_fetched_again(tmp_path: Path) -> None:
    _fetch(FakeOutputs(FILES), tmp_path)
    (tmp_path / "a b.csv").write_bytes(b"harmed")
    server = FakeOutputs(FILES)
    done = _fetch(server, tmp_path)
    assert done.already_there == 3
    assert len(server.ranges) == 1
    assert (tmp_path / "a b.csv").read_bytes() == FILES["a b.csv"]
    server = FakeOutputs(FILES)
    assert _fetch(server, tmp_path).already_there == 4
    assert not server.ranges


@pytest.mark.parametrize("harm", ["bytes", "short", "long", "garbled"])
def test_damaged_bytes_are_refused_and_leave_nothing(tmp_path: Path, harm: str) -> None:
    stored = {"a"} if harm == "bytes" else set[str]()
    server = FakeOutputs({"a": b"x" * 5000}, stored=stored)
    if harm == "bytes":
        server.pack = server.pack.replace(b"xx", b"xy", 1)
    elif harm == "short":
        server.entries[0]["size"] = 5001
    elif harm == "long":
        server.entries[0]["size"] = 4999
    else:
        server.pack = server.pack[:15] + b"\xff" * (len(server.pack) - 15)
    with pytest.raises(errors.Damaged, match="'a' arrived"):
        _fetch(server, tmp_path)
    assert _names(tmp_path) == set()


def test_an_object_that_ends_too_early_is_damage(tmp_path: Path) -> None:
    server = FakeOutputs({"a": b"x" * 5000}, stored={"a"})
    server.pack = server.pack[:100]
    with pytest.raises(errors.Damaged):
        _fetch(server, tmp_path)
    assert _names(tmp_path) == set()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//x", "", "a\0b", ".simyard/../x", "./x"])
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_fetched(tmp_path: Path, path: str) -> None:
    server = FakeOutputs({"good": b"1"})
    server.entries.append(server.entries[0] | {"path": path})
    with pytest.raises(errors.Damaged):
        _fetch(server, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_inside_are_made_and_others_are_left_out(tmp_path: Path) -> None:
    links = {
        "ok": "deep/file",
        "deep/up": "../ok",
        "absolute": "/etc/passwd",
        "escape": "../x",
        "deep/escape": "../../x",
        "loop": "loop",
        "dangling": "nowhere",
        "deep/er/hop": "../..",
        "together": "deep/er/hop/../x",
    }
    done = _fetch(FakeOutputs({"deep/file": b"1", "deep/er/f": b"2"}, links=links), tmp_path / "out")
    out = tmp_path / "out"
    assert set(done.left_out) == {"absolute", "escape", "deep/escape", "together"}
    assert (out / "ok").read_bytes() == (out / "deep/up").read_bytes() == b"1"
    assert (out / "dangling").is_symlink()
    assert _fetch(FakeOutputs({"deep/file": b"1", "deep/er/f": b"2"}, links=links), out).left_out == done.left_out


def test_nothing_is_written_through_a_link_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(tmp_path / "outside")
    with pytest.raises(errors.InvalidInput, match="symbolic link"):
        _fetch(FakeOutputs({"deep/er/file": b"1"}), tmp_path / "out")
    assert not list((tmp_path / "outside").iterdir())


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").symlink_to(tmp_path / "outside")
    _fetch(FakeOutputs({"file": b"1"}), tmp_path / "out")
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert (tmp_path / "out" / "file").read_bytes() == b"1"


def test_a_place_that_cannot_take_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.InvalidInput, match="cannot be made"):
        _fetch(FakeOutputs({"a": b"1"}), tmp_path / "file")
    (tmp_path / "out" / "a").mkdir(parents=True)
    with pytest.raises(errors.InvalidInput, match="cannot be written"):
        _fetch(FakeOutputs({"a": b"1"}), tmp_path / "out")
    assert _names(tmp_path) == {"file"}


def test_a_glob_without_matches_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match=r"\*\.vtk"):
        _fetch(FakeOutputs({}), tmp_path / "out", glob="*.vtk")
    assert not (tmp_path / "out").exists()


def test_neighbours_share_a_range_and_strangers_do_not() -> None:
    def entry(path: str, where: str, offset: int, length: int) -> ManifestEntry:
        about = {"size": length, "mtime_ns": 0, "mode": 0o644, "sha256": "0" * 64, "codec": Codec.STORED}
        return ManifestEntry(path=path, object=where, offset=offset, length=length, **about)

    entries = [
        entry("c", "p0", 100 + GAP, 10),
        entry("a", "p0", 0, 100),
        entry("b", "p0", 50, 10),
        entry("far", "p0", 5 * GAP, 10),
        entry("other", "p1", 5 * GAP + 10, 10),
    ]
    spans = [(span.object, [one.path for one in span.entries], span.start, span.length) for span in plan(entries)]
    assert spans == [
        ("p0", ["a"], 0, 100),
        ("p0", ["b"], 50, 10),
        ("p0", ["c"], 100 + GAP, 10),
        ("p0", ["far"], 5 * GAP, 10),
        ("p1", ["other"], 5 * GAP + 10, 10),
    ]
    assert [len(span.entries) for span in plan([entries[0], entries[1]])] == [2]
    many = [entry(f"f{i}", "p", i * 1000, 900) for i in range(100_000)]
    assert 2 < len(plan(many)) < 10
    assert sum(len(span.entries) for span in plan(many)) == 100_000
