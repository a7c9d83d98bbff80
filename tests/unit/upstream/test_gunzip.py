"""Gzip or plain, however it is split; damage is detected and memory stays bounded."""

import gzip
import zlib
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FileRejected
from relay.upstream.gunzip import PIECE_BYTES, Gunzip

TEXT = b'"amplitude_id","user_id"\n"1","a"\n' * 500
PACKED = gzip.compress(TEXT)


def _unpack(*chunks: bytes) -> bytes:
    gunzip = Gunzip()
    plain = b"".join(chain.from_iterable(gunzip.feed(chunk) for chunk in chunks))
    gunzip.finish()
    return plain


def _rejected(*chunks: bytes) -> str:
    with pytest.raises(FileRejected) as caught:
        _unpack(*chunks)
    return caught.value.reason


@pytest.mark.parametrize("plain", [b"", b"a", b"\x1fabc", b"\0\x1f\x8b", TEXT])
def test_plain_files_pass_unchanged(plain: bytes) -> None:
    """Only the two magic bytes make a gzip file."""
    assert _unpack(plain) == plain
    assert _unpack(*(plain[at : at + 1] for at in range(len(plain)))) == plain


@given(
    contents=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 400)),
)
def test_any_split_of_gzip_gives_its_content(
    contents: list[bytes], padding: int, cuts: list[int]
) -> None:
    """Members may follow each other, zeros may end the file, chunks end anywhere."""
    packed = b"".join(map(gzip.compress, contents)) + b"\0" * padding
    edges = sorted({0, len(packed), *(cut % (len(packed) + 1) for cut in cuts)})
    chunks = [packed[a:b] for a, b in pairwise(edges)]
    assert _unpack(*chunks) == b"".join(contents)


def test_single_bytes_are_enough() -> None:
    """Slow connections change nothing."""
    assert _unpack(*(PACKED[at : at + 1] for at in range(len(PACKED)))) == TEXT


@pytest.mark.parametrize("length", range(1, len(PACKED)))
def test_gzip_that_ends_early_is_truncated(length: int) -> None:
    """Only the trailer proves that it is complete."""
    assert _rejected(PACKED[:length]) == "truncated"


def test_a_second_member_that_ends_early_is_truncated() -> None:
    """A complete first member is not enough."""
    assert _rejected(PACKED + PACKED[:-1]) == "truncated"
    assert _rejected(PACKED + PACKED[:1]) == "truncated"


def test_damage_is_found() -> None:
    """A wrong checksum, a flipped header, bytes no member starts with."""
    flipped = bytearray(PACKED)
    flipped[-8] ^= 1
    assert _rejected(bytes(flipped)) == "broken_gzip"
    assert _rejected(PACKED[:2] + b"\xff" + PACKED[3:]) == "broken_gzip"
    assert _rejected(PACKED + b"tail") == "broken_gzip"
    assert _rejected(PACKED, b"\0", b"tail") == "broken_gzip"


@pytest.mark.parametrize("is_packed", [True, False])
def test_pieces_are_small_however_large_the_content(is_packed: bool) -> None:  # noqa: FBT001
    """A bomb is decompressed no faster than its output is consumed."""
    content = bytes(20 * PIECE_BYTES + 1)
    gunzip = Gunzip()
    sizes = list(map(len, gunzip.feed(gzip.compress(content) if is_packed else b"x" + content)))
    gunzip.finish()
    assert max(sizes) == PIECE_BYTES
    assert sum(sizes) == len(content) + (not is_packed)


def test_a_nested_bomb_stays_compressed() -> None:
    """Only the outer layer is decompressed: the CSV reader rejects the inner one."""
    inner = zlib.compress(b"x")
    assert _unpack(gzip.compress(inner)) == inner
