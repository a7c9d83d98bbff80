"""Files on their way out: compressed as they are made, and cut on request.

A file is never whole in memory, however many rows it has; only a file that is to be cut
is, because its length must be known.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import anyio
import anyio.lowlevel
from aiohttp import hdrs, web

from relay.sandbox.answers import Answer
from relay.sandbox.transport import linger

Encoding = Literal["gzip", "gzip_unlabelled", "plain"]
Cut = Literal["row", "line", "gzip", "length", "chunked"]

_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
_DRIP_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Download:
    """One file.

    Attributes:
        pieces: Makes the plain text, piece by piece, anew at each call.
        encoding: `gzip` says so in `Content-Encoding`; `gzip_unlabelled` does not.
        cut: Where the file ends too early, if it does: in a `row`, after a whole `line`,
            inside of the `gzip` data (the transfer itself is complete in all three), or in
            the transfer, with a `length` told before or `chunked`.
        content_type: Media type.
    """

    pieces: Callable[[], Iterable[bytes]]
    encoding: Encoding = "gzip"
    cut: Cut | None = None
    content_type: str = "text/csv"

    def wire(self) -> Iterator[bytes]:
        """Yield the body as it travels; the cuts of the transfer are not made here."""
        pieces = self.pieces()
        if self.cut in ("row", "line"):
            pieces = [_cut_text(b"".join(pieces), in_row=self.cut == "row")]
        packed = pieces if self.encoding == "plain" else _gzip(pieces)
        if self.cut == "gzip":
            whole = b"".join(packed)
            packed = [whole[: len(whole) // 2]]
        yield from packed


Reply: TypeAlias = Answer | Download


def _gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def _cut_text(text: bytes, *, in_row: bool) -> bytes:
    """Return the first half: whole lines, and a few bytes of the next if `in_row`."""
    middle = text.find(b"\n", len(text) // 2) + 1
    return text[: middle + 3] if in_row else text[:middle]


async def deliver(
    request: web.Request, reply: Reply, *, drip_s: float | None = None, until: anyio.Event
) -> web.StreamResponse:
    """Send a reply to its end, or as far as it goes.

    Args:
        request: What is answered.
        reply: The answer or the file.
        drip_s: Pause after every few bytes; None = as fast as it goes.
        until: Ends a drip.
    """
    if isinstance(reply, Answer):
        response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
        response.content_type = reply.content_type
        response.content_length = len(reply.body)
        pieces: Iterable[bytes] = (reply.body,)
        cut = None
    else:
        response = web.StreamResponse()
        response.content_type = reply.content_type
        if reply.encoding == "gzip":
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        pieces, cut = reply.wire(), reply.cut
    if cut in ("length", "chunked"):
        whole = b"".join(pieces)
        pieces = (whole[: len(whole) // 2],)
        response.content_length = len(whole) if cut == "length" else None
    await response.prepare(request)
    for piece in pieces if drip_s is None else _drops(pieces):
        await response.write(piece)
        await (anyio.lowlevel.checkpoint() if drip_s is None else linger(drip_s, until))
    if cut not in ("length", "chunked"):
        await response.write_eof()
    elif request.transport is not None:
        request.transport.close()
    return response


def _drops(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from (piece[at : at + _DRIP_BYTES] for at in range(0, len(piece), _DRIP_BYTES))
