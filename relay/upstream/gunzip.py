"""Gzip or plain bytes to plain bytes, in pieces; the first bytes decide.

Headers are ignored: storage and proxies label compressed files inconsistently.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from relay.errors import FileRejected

PIECE_BYTES: Final = 65_536
"""The largest piece that comes out, however well a file was compressed."""

_MAGIC: Final = b"\x1f\x8b"
"""Source: RFC 1952, section 2.3.1."""

_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
"""zlib's notation for a gzip header around the data."""


class Gunzip:
    """Decompresses a file as it arrives.

    Source: RFC 1952, section 2.2, for files of several members; gzip(1) for zeros after the last.
    """

    def __init__(self) -> None:
        self._is_gzip: bool | None = None
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._is_in_member = False
        self._held = b""

    @property
    def is_gzip(self) -> bool:
        """Whether the file is compressed; False until its first two bytes are there."""
        return bool(self._is_gzip)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the content of the file's next bytes, in pieces of at most `PIECE_BYTES`.

        All of them must be consumed before the next call.

        Raises:
            FileRejected: `broken_gzip`.
        """
        data = self._held + chunk
        self._held = b""
        if self._is_gzip is None:
            if data in (b"", _MAGIC[:1]):
                self._held = data
                return
            self._is_gzip = data.startswith(_MAGIC)
        for at in range(0, len(data), PIECE_BYTES):
            part = data[at : at + PIECE_BYTES]
            if self._is_gzip:
                yield from self._unpack(part)
            else:
                yield part

    def finish(self) -> None:
        """Accept that the file ends here.

        Raises:
            FileRejected: `truncated`, if compressed data has not ended.
        """
        if self._is_in_member or self._held:
            raise FileRejected("truncated", "The compressed file ends too early.")

    def _unpack(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            if not self._is_in_member:
                packed = self._begin_member(packed)
                if not packed:
                    return
            try:
                piece = self._member.decompress(packed, PIECE_BYTES)
            except zlib.error as error:
                raise _broken() from error
            packed = self._member.unconsumed_tail
            if self._member.eof:
                packed = self._member.unused_data
                self._is_in_member = False
            if piece:
                yield piece

    def _begin_member(self, packed: bytes) -> bytes:
        """Begin a member if its magic number is there; return the bytes that belong to it."""
        packed = (self._held + packed).lstrip(b"\0")
        self._held = b""
        if packed in (b"", _MAGIC[:1]):
            self._held = packed
            return b""
        if not packed.startswith(_MAGIC):
            raise _broken()
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._is_in_member = True
        return packed


def _broken() -> FileRejected:
    return FileRejected("broken_gzip", "The file's compression is damaged.")
