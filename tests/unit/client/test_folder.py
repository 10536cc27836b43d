from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from simyard import folder as folder_module
from simyard.errors import InvalidInput, UnreadableInput
from simyard.folder import hash_files, read_range, scan
from simyard.progress import Transferred
from tests.unit.client.conftest import WEIRD


def test_every_file_is_found_with_its_bytes_and_its_mode(weird_folder: Path) -> None:
    told: list[Transferred] = []
    hashed = hash_files(scan(weird_folder), told.append)
    assert {one.file.path: one.sha256 for one in hashed} == {
        name: hashlib.sha256(data).hexdigest() for name, data in WEIRD.items()
    }
    inputs = {one.input.path: one.input for one in hashed}
    assert inputs["run.sh"].mode == 0o755
    assert [one.file.path for one in hashed] == sorted(WEIRD)
    assert (told[-1].files, told[-1].bytes) == (len(WEIRD), sum(map(len, WEIRD.values())))


def test_links_that_stay_inside_are_taken_as_their_targets(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mesh.msh").write_bytes(b"mesh")
    (tmp_path / "link.msh").symlink_to("a/mesh.msh")
    (tmp_path / "again").symlink_to("a")
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    found = {file.path: file.size for file in scan(tmp_path)}
    assert found == {"a/mesh.msh": 4, "link.msh": 4, "again/mesh.msh": 4, "absolute/mesh.msh": 4}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert [file.path for file in scan(tmp_path / "link")] == ["f"]


def _outside(top: Path) -> None:
    (top.parent / "secret").write_text("s")
    (top / "bad\nname").symlink_to(top.parent / "secret")


def _outside_by_steps(top: Path) -> None:
    (top / "hop").symlink_to("../..")


def _circle(top: Path) -> None:
    (top / "sub").mkdir()
    (top / "sub" / "bad").symlink_to("..")


def _to_itself(top: Path) -> None:
    (top / "bad").symlink_to("bad")


def _to_nothing(top: Path) -> None:
    (top / "bad").symlink_to("gone")


def _pipe(top: Path) -> None:
    os.mkfifo(top / "bad")


def _socket(top: Path) -> None:
    here = Path.cwd()
    os.chdir(top)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("bad")
    finally:
        os.chdir(here)


def _link_to_device(top: Path) -> None:
    (top / "bad").symlink_to("/dev/null")


def _own_folder(top: Path) -> None:
    (top / ".simyard").mkdir()
    (top / ".simyard" / "f").write_text("x")


def _not_utf8(top: Path) -> None:
    Path(os.fsdecode(os.fsencode(top) + b"/bad\xff")).write_text("x")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_outside, r"bad\\nname.*leaves the folder.*Copy"),
        (_outside_by_steps, "hop.*leaves the folder"),
        (_circle, "sub/bad.*circle.*Remove"),
        (_to_itself, "bad.*circle"),
        (_to_nothing, "bad.*nothing"),
        (_pipe, "bad.*named pipe.*Remove"),
        (_socket, "bad.*socket.*Remove"),
        (_link_to_device, "bad.*leaves the folder"),
        (_own_folder, r"\.simyard.*rename"),
        (_not_utf8, r"bad\\\\?xff.*UTF-8.*rename"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    top = tmp_path / "case"
    top.mkdir()
    (top / "good").write_text("x")
    make(top)
    with pytest.raises(InvalidInput, match=says) as caught:
        scan(top)
    assert caught.value.field == "inputs"
    str(caught.value).encode()


def test_no_folder_no_files_and_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        scan(tmp_path / "none")
    (tmp_path / "sub").mkdir()
    with pytest.raises(InvalidInput, match="holds no files"):
        scan(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="is not a folder"):
        scan(tmp_path / "file")
    monkeypatch.setattr(folder_module, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / name).write_text("x")
    with pytest.raises(InvalidInput, match="more than 2 files"):
        scan(tmp_path)


def test_an_unreadable_file_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    files = scan(tmp_path)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder_module.os, "open", refuse)
    with pytest.raises(UnreadableInput, match=r"'a' cannot be read.*chmod"):
        hash_files(files)


def test_a_file_that_changes_or_vanishes_after_the_look_is_caught(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    files = scan(tmp_path)
    (tmp_path / "a").write_text("longer")
    with pytest.raises(UnreadableInput, match="'a' changed"):
        hash_files(files)
    (tmp_path / "a").unlink()
    with pytest.raises(UnreadableInput, match="'a' vanished"):
        hash_files(files)
    os.mkfifo(tmp_path / "a")
    with pytest.raises(UnreadableInput, match="'a' changed"):
        hash_files(files)


def test_a_file_that_changes_while_it_is_read_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    (file,) = scan(tmp_path)
    chunks = read_range(file, 0, file.size)
    next(chunks)
    path.write_bytes(b"y" * 3_000_000)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UnreadableInput, match="changed"):
        list(chunks)
