from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import Stopped, UnsafePath
from storage.folder import Folder, stays_inside


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("secret")
    return Folder(tmp_path / "inside")


def _read(folder: Folder, path: str) -> bytes:
    with os.fdopen(folder.open(path), "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../secret", "a/../../secret", "a//b", ".", "a/.", "a\0b", "x" * 5000]
)
def test_paths_that_are_not_plain_are_refused(folder: Folder, path: str) -> None:
    with pytest.raises(UnsafePath):
        folder.open(path)
    with pytest.raises(UnsafePath):
        folder.write(path, [b""], mode=0o644)
    with pytest.raises(UnsafePath):
        folder.link(path, "a")


@pytest.mark.parametrize("in_kernel", [True, False])
def test_a_copy_is_a_file_of_its_own(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_kernel: bool
) -> None:
    def refused(*_: int, **__: int) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not in_kernel:
        monkeypatch.setattr("storage.folder.os.copy_file_range", refused)
    with (tmp_path / "secret").open("rb") as source:
        source.read()  # where it stands does not matter
        folder.copy("a/b", source.fileno(), mode=0o640, check=lambda: None)
    assert _read(folder, "a/b") == b"secret"
    assert (folder.root / "a" / "b").stat().st_mode & 0o777 == 0o640
    assert (folder.root / "a" / "b").stat().st_nlink == 1


def test_a_copy_that_is_stopped_leaves_nothing(folder: Folder, tmp_path: Path) -> None:
    def stop() -> None:
        raise Stopped

    with (tmp_path / "secret").open("rb") as source, pytest.raises(Stopped):
        folder.copy("a", source.fileno(), mode=0o640, check=stop)
    assert list(folder.root.iterdir()) == []


def test_no_link_leads_out_of_the_folder(folder: Folder, tmp_path: Path) -> None:
    (folder.root / "file").symlink_to("../secret")
    (folder.root / "out").symlink_to("..")
    for path in ("file", "out/secret"):
        with pytest.raises(OSError, match=r"."):
            folder.open(path)
    with pytest.raises(OSError, match=r"."):
        folder.write("out/secret", [b"overwritten"], mode=0o644)
    folder.write("file", [b"mine"], mode=0o644)
    assert (tmp_path / "secret").read_text() == "secret"
    assert _read(folder, "file") == b"mine"


def test_a_named_pipe_does_not_hold_us(folder: Folder) -> None:
    os.mkfifo(folder.root / "pipe")
    with pytest.raises(FileNotFoundError):
        folder.open("pipe")


def test_a_file_is_replaced_only_when_whole(folder: Folder) -> None:
    def torn() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("torn")

    folder.write("a b/c\n'ü'", [b"old"], mode=0o4755, mtime_ns=1_000_000_007)
    with pytest.raises(RuntimeError):
        folder.write("a b/c\n'ü'", torn(), mode=0o600)
    assert _read(folder, "a b/c\n'ü'") == b"old"
    assert os.listdir(folder.root / "a b") == ["c\n'ü'"]
    info = (folder.root / "a b" / "c\n'ü'").stat()
    assert (info.st_mode & 0o7777, info.st_mtime_ns) == (0o755, 1_000_000_007)


def test_a_walk_meets_everything_and_enters_no_link(folder: Folder) -> None:
    folder.write("b/deep/file", [b"1"], mode=0o644)
    folder.write("a", [b""], mode=0o644)
    (folder.root / "loop").symlink_to(".")
    os.mkfifo(folder.root / "pipe")
    (folder.root / os.fsdecode(b"bad\xff")).write_bytes(b"")
    assert [found.path for found in folder.walk()] == ["a", "bad\udcff", "loop", "pipe", "b/deep/file"]


def test_a_walk_of_nothing_is_empty(tmp_path: Path) -> None:
    assert list(Folder(tmp_path / "absent").walk()) == []


def test_a_walk_does_not_get_lost_in_the_depths(folder: Folder) -> None:
    here = os.open(folder.root, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    found = list(folder.walk())
    assert len(found) == 1
    assert found[0].trouble is not None


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("a", "b", True),
        ("a/b", "../c", True),
        ("a/b", "../../c", False),
        ("a", "..", False),
        ("a", "/etc/passwd", False),
        ("a", "b/../../c", False),
        ("a/b/c", ".././../d", True),
        ("a", "", False),
    ],
)
def test_links_that_leave_are_known(path: str, target: str, inside: bool) -> None:
    assert stays_inside(path, target) is inside


_PARTS = st.lists(st.sampled_from(["..", ".", "a", "b", "c"]), min_size=1, max_size=5).map("/".join)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "d/a", "d/e/b", "d/c"]), _PARTS), max_size=5))
def test_no_set_of_accepted_links_leads_out(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("links") / "inside"
    (root / "d" / "e").mkdir(parents=True)
    folder = Folder(root)
    made = [path for path, target in links if folder.link(path, target)]
    for path in made:
        assert Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root))
