"""Plain zip files, written as a stream whose offsets are known while it goes (APPNOTE 6.3, with zip64 where needed)."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from isal import igzip_lib, isal_zlib

from simyard.files import Codec

_LIMIT = 0xFFFFFFFF
# What a member may grow by, when the sizes are only known afterwards, before its fields need 64 bits.
_MARGIN = 1 << 26
_SAMPLE = 64 * 1024
_GAIN = 0.9
_METHOD = {Codec.STORED: 0, Codec.DEFLATE: 8}
# Bit 3: sizes follow the data; bit 11: names are UTF-8.
_FLAGS = 0x0808
_UNIX = 3 << 8
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_LATEST = (2107, 12, 31, 23, 59, 58)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the zip file, once its bytes have passed."""

    name: str
    codec: Codec
    mode: int
    """Permission bits and file type, as `st_mode`."""
    mtime: float
    header: int
    """Where its local header starts."""
    offset: int
    """Where its raw bytes start."""
    length: int
    """How many raw bytes there are."""
    size: int
    """Bytes of the file itself."""
    crc: int
    wide: bool
    """Its sizes are written in 64 bits."""


class ZipWriter:
    """Makes the pieces of one zip file, member after member; `close` gives the last ones."""

    def __init__(self) -> None:
        self.position = 0
        self.members: list[Member] = []

    def add(
        self, name: str, raw: Iterable[bytes], sums: Sums, *, codec: Codec, mode: int, mtime: float, expected: int
    ) -> Iterator[bytes]:
        """Give the pieces of a member whose raw bytes are `raw`; `sums` holds its CRC and size when they have passed.

        `expected` is the number of bytes, about: it decides whether sizes take 64 bits.
        """
        header, wide = self.position, expected > _LIMIT - _MARGIN
        encoded = name.encode()
        version = 45 if wide else 20
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if wide else b""
        stamp, day = _dos_time(mtime)
        small = _LIMIT if wide else 0
        method = _METHOD[codec]
        fields = (0x04034B50, version, _FLAGS, method, stamp, day, 0, small, small, len(encoded), len(extra))
        yield self._moved(struct.pack("<IHHHHHIIIHH", *fields) + encoded + extra)
        offset = self.position
        for piece in raw:
            yield self._moved(piece)
        length = self.position - offset
        descriptor = struct.pack("<IIQQ" if wide else "<IIII", 0x08074B50, sums.crc, length, sums.size)
        yield self._moved(descriptor)
        self.members.append(
            Member(name, codec, mode, mtime, header, offset, length, sums.size, sums.crc, wide),
        )

    def close(self) -> Iterator[bytes]:
        """Give the central directory."""
        start = self.position
        for member in self.members:
            yield self._moved(_directory_entry(member))
        size, count = self.position - start, len(self.members)
        if count >= 0xFFFF or size >= _LIMIT or start >= _LIMIT:
            at = self.position
            yield self._moved(struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, start))
            yield self._moved(struct.pack("<IIQI", 0x07064B50, 0, at, 1))
        few = min(count, 0xFFFF)
        yield self._moved(
            struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, min(size, _LIMIT), min(start, _LIMIT), 0),
        )

    def _moved(self, piece: bytes) -> bytes:
        self.position += len(piece)
        return piece


class Sums:
    """The CRC and the number of the bytes of a file while they pass."""

    def __init__(self) -> None:
        self.crc = 0
        self.size = 0

    def over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Give the pieces and count them."""
        for piece in pieces:
            self.crc = isal_zlib.crc32(piece, self.crc)
            self.size += len(piece)
            yield piece


def deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give the raw deflate stream of the pieces."""
    # isal's level 1 is 4.4 times faster than zlib's at the same ratio.
    deflate = isal_zlib.compressobj(level=1, wbits=-15)
    for piece in pieces:
        if out := deflate.compress(piece):
            yield out
    yield deflate.flush()


def inflated(pieces: Iterable[bytes], chunk: int) -> Iterator[bytes]:
    """Give what a raw deflate stream holds, in pieces of at most `chunk` bytes however well it was compressed.

    Raises:
        zlib.error: the stream is damaged.
    """
    inflate = isal_zlib.decompressobj(wbits=-15)
    try:
        for piece in pieces:
            rest = piece
            while rest and not inflate.eof:
                out = inflate.decompress(rest, chunk)
                rest = inflate.unconsumed_tail
                if out:
                    yield out
        while not inflate.eof and (out := inflate.decompress(b"", chunk)):
            yield out
    except (igzip_lib.IsalError, zlib.error) as error:  # type: ignore[misc]  # isal's stub calls the class a value
        raise zlib.error(str(error)) from error
    if not inflate.eof:
        raise zlib.error("the deflate stream ends early")


def worthwhile(sample: bytes) -> bool:
    """Say whether a file that begins with these bytes gains from deflate."""
    sample = sample[:_SAMPLE]
    return len(sample) >= 64 and len(isal_zlib.compress(sample, level=1, wbits=-15)) < len(sample) * _GAIN


def _dos_time(mtime: float) -> tuple[int, int]:
    try:
        when = tuple(time.gmtime(mtime)[:6])
    except (OverflowError, OSError, ValueError):
        when = _EARLIEST
    year, month, day, hour, minute, second = min(max(when, _EARLIEST), _LATEST)
    return hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day


def _directory_entry(member: Member) -> bytes:
    encoded = member.name.encode()
    stamp, day = _dos_time(member.mtime)
    far = member.header >= _LIMIT
    extra = b""
    if member.wide or far:
        values = [member.size, member.length] if member.wide else []
        values += [member.header] if far else []
        extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)
    version = 45 if extra else 20
    # Fields in the order of section 4.3.12; the upper half of the external attributes is st_mode.
    sizes = (_LIMIT, _LIMIT) if member.wide else (member.length, member.size)
    fields = (0x02014B50, _UNIX | version, version, _FLAGS, _METHOD[member.codec], stamp, day, member.crc, *sizes)
    rest = (len(encoded), len(extra), 0, 0, 0, (member.mode & 0xFFFF) << 16, min(member.header, _LIMIT))
    return struct.pack("<IHHHHHHIII", *fields) + struct.pack("<HHHHHII", *rest) + encoded + extra
