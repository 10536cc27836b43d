"""Bodies that were sent compressed, made plain again in steps, so that a small one cannot fill the memory."""

from __future__ import annotations

from collections.abc import Iterator

from isal import isal_zlib
from isal.igzip_lib import IsalError

from simyard.errors import InvalidInput, TooLarge
from simyard.resources import MIB

DECODED_LIMIT = 64 * MIB
"""Bytes of the largest body once it is plain."""
_STEP = MIB
_GZIP = 31


def decoded(body: bytes | bytearray, encoding: str, limit: int) -> bytes | bytearray:
    """Return the plain bytes of a body with a `Content-Encoding`.

    Raises:
        InvalidInput: the encoding is another one than gzip and zstd, or the body is not encoded so.
        TooLarge: there are more plain bytes than the limit; no more than that were made.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            steps = _gzip(body)
        case "zstd":
            steps = _zstd(body)
        case other:
            fix = "Send gzip, zstd or a plain body."
            raise InvalidInput(f"the encoding {other[:40]!r} is not known.", field="Content-Encoding", fix=fix)
    plain = bytearray()
    try:
        for piece in steps:
            plain += piece
            if len(plain) > limit:
                fix = "Send fewer tasks or files in one request."
                raise TooLarge(f"The decoded body is larger than {limit} bytes, the most that is taken.", fix=fix)
    except (IsalError, OSError, EOFError) as error:  # type: ignore[misc]  # isal's stub takes the class for an instance
        fix = "Send the whole body in the encoding that the header names."
        raise InvalidInput(f"the body is not valid {encoding}: {error}.", field="Content-Encoding", fix=fix) from None
    return plain


def _gzip(body: bytes | bytearray) -> Iterator[bytes]:
    rest: bytes = bytes(body)
    while True:
        stream = isal_zlib.decompressobj(wbits=_GZIP)
        while not stream.eof:
            piece = stream.decompress(rest, _STEP)
            rest = stream.unconsumed_tail
            if not piece and not rest and not stream.eof:
                raise EOFError("it ends too early")
            yield piece
        # A gzip file may have several members, one after the other.
        rest = stream.unused_data
        if not rest:
            return


def _zstd(body: bytes | bytearray) -> Iterator[bytes]:
    import pyarrow as pa

    if not body:
        raise EOFError("it ends too early")
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        while piece := stream.read(_STEP):
            yield piece
