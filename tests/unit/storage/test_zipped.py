from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simyard.files import Codec
from storage.zipped import Sums, ZipWriter, deflated, inflated, worthwhile

_WIDE = 1 << 33


def _zip(files: dict[str, bytes], codec: Codec, expected: int | None = None) -> tuple[ZipWriter, bytes]:
    writer, out = ZipWriter(), b""
    for name, data in files.items():
        sums = Sums()
        raw = sums.over([data[:7], data[7:]])
        packed = deflated(raw) if codec is Codec.DEFLATE else raw
        size = len(data) if expected is None else expected
        out += b"".join(writer.add(name, packed, sums, codec=codec, mode=0o100640, mtime=1e9, expected=size))
    return writer, out + b"".join(writer.close())


_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20)


@given(
    st.dictionaries(_NAMES, st.binary(max_size=2000), max_size=5),
    st.sampled_from(Codec),
    st.sampled_from([None, _WIDE]),
)
def test_any_zip_is_read_back_and_its_offsets_are_true(
    files: dict[str, bytes], codec: Codec, expected: int | None
) -> None:
    writer, out = _zip(files, codec, expected)
    with zipfile.ZipFile(io.BytesIO(out)) as archive:
        assert {name: archive.read(info) for name, info in zip(files, archive.infolist(), strict=True)} == files
    for member in writer.members:
        raw = out[member.offset : member.offset + member.length]
        assert (zlib.decompress(raw, -15) if codec is Codec.DEFLATE else raw) == files[member.name]


def test_many_members_take_the_wide_directory() -> None:
    _, out = _zip({f"f{number}": b"" for number in range(70_000)}, Codec.STORED)
    with zipfile.ZipFile(io.BytesIO(out)) as archive:
        assert len(archive.namelist()) == 70_000


@pytest.mark.parametrize("expected", [None, _WIDE])
@pytest.mark.parametrize("codec", Codec)
def test_a_plain_tool_opens_them(tmp_path: Path, codec: Codec, expected: int | None) -> None:
    (tmp_path / "a.zip").write_bytes(_zip({"a b/ü": b"text " * 1000, "empty": b""}, codec, expected)[1])
    opener = (
        ["unzip", "-q", "a.zip"] if shutil.which("unzip") else [sys.executable, "-m", "zipfile", "-e", "a.zip", "."]
    )
    subprocess.run(opener, cwd=tmp_path, check=True)
    assert (tmp_path / "a b" / "ü").read_bytes() == b"text " * 1000


@given(st.binary(max_size=5000), st.integers(1, 100), st.integers(1, 3000))
def test_what_is_deflated_is_inflated_in_bounded_pieces(data: bytes, step: int, chunk: int) -> None:
    raw = b"".join(deflated([data * 20]))
    pieces = list(inflated((raw[i : i + step] for i in range(0, len(raw), step)), chunk))
    assert b"".join(pieces) == data * 20
    assert all(len(piece) <= chunk for piece in pieces)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, None])
def test_a_damaged_stream_is_noticed(damage: bytes | None) -> None:
    raw = b"".join(deflated([b"text" * 1000]))[:-3] if damage is None else damage
    with pytest.raises(zlib.error):
        list(inflated([raw], 100))


def test_noise_is_not_worth_deflating() -> None:
    import os

    assert worthwhile(b"text " * 100)
    assert not worthwhile(os.urandom(100_000))
    assert not worthwhile(b"tiny")
