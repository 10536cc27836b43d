from __future__ import annotations

import gzip
import tracemalloc

import pyarrow as pa
import pytest

from serve.encodings import decoded
from simyard.errors import InvalidInput, TooLarge

TEXT = b'{"name": "gr\xc3\xb6\xc3\x9fe"}\n' * 5000


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


PACKED = {"gzip": gzip.compress(TEXT), "zstd": zstd(TEXT)}


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_plain_body_stays_as_it_is(encoding: str) -> None:
    assert decoded(TEXT, encoding, 10**9) is TEXT


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_comes_back_whole(encoding: str) -> None:
    assert decoded(PACKED[encoding], encoding, len(TEXT)) == TEXT
    assert decoded(PACKED[encoding] * 2, f" {encoding.upper()}", 2 * len(TEXT)) == TEXT * 2


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_one_byte_over_the_limit_is_too_large(encoding: str) -> None:
    with pytest.raises(TooLarge, match=str(len(TEXT) - 1)) as caught:
        decoded(PACKED[encoding], encoding, len(TEXT) - 1)
    assert caught.value.fix


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_is_in_memory(encoding: str) -> None:
    large = b"\0" * 100 * 1024**2
    bomb = gzip.compress(large, 1) if encoding == "gzip" else zstd(large)
    del large
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decoded(bomb, encoding, 1024**2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024**2


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", ["empty", "text", "head", "half", "tail", "flipped"])
def test_a_broken_body_is_refused(encoding: str, cut: str) -> None:
    good = PACKED[encoding]
    body = {
        "empty": b"",
        "text": TEXT,
        "head": good[:3],
        "half": good[: len(good) // 2],
        "tail": good[:-1],
        "flipped": bytes([good[0] ^ 1]) + good[1:],
    }[cut]
    with pytest.raises(InvalidInput) as caught:
        decoded(body, encoding, 10**9)
    assert (caught.value.field, bool(caught.value.fix)) == ("Content-Encoding", True)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "\xff" * 500])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decoded(TEXT, encoding, 10**9)
    assert "gzip" in (caught.value.fix or "")
    assert len(str(caught.value)) < 300
