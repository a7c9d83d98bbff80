"""What a stand-in decides to say: an answer in one piece, or a file in many. Pure.

A file is made and compressed piece by piece, however many rows it has. Only a file that
is to be cut is ever whole in memory, because its length must be known.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import orjson

JsonObject: TypeAlias = dict[str, object]
Encoding = Literal["gzip", "gzip_unlabelled", "plain"]
Cut = Literal["row", "line", "gzip", "length", "chunked"]

SIGN_IN_PAGE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>\n"
)
"""What a captive portal or an expired session answers instead of a file."""

_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
_STORAGE_CODES: Final = {403: "AccessDenied", 404: "NoSuchKey"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: HTTP status.
        body: The bytes, not compressed.
        content_type: Media type of the body.
        headers: Further headers.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_header(self, name: str, value: str) -> "Answer":
        """Return a copy with one more header."""
        return replace(self, headers={**self.headers, name: value})


def json_answer(status: int, body: object) -> Answer:
    """Return `body` as JSON."""
    return Answer(status, orjson.dumps(body))


def html_answer(status: int, title: str) -> Answer:
    """Return the page a proxy shows in place of the service."""
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Answer(status, page.encode(), "text/html")


def storage_error(status: int, code: str = "", text: str = "") -> Answer:
    """Return the XML error of an object storage.

    Source: Amazon S3 error codes, 2026.
    """
    named = code or _STORAGE_CODES.get(status, "InternalError")
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{named}</Code><Message>{text or named}</Message></Error>"
    )
    return Answer(status, body.encode(), "application/xml")


@dataclass(frozen=True, slots=True)
class Download:
    """One file.

    Attributes:
        pieces: Makes the plain text, piece by piece, afresh at each call.
        encoding: `gzip` says so in `Content-Encoding`; `gzip_unlabelled` does not.
        cut: Where the file ends too early, if it does. The transfer is complete with
            `row` (inside a row), `line` (after a whole line) and `gzip` (inside the
            compressed data); it breaks off with `length` (announced before) and `chunked`.
        content_type: Media type.
    """

    pieces: Callable[[], Iterable[bytes]]
    encoding: Encoding = "gzip"
    cut: Cut | None = None
    content_type: str = "text/csv"

    def encoded(self) -> Iterator[bytes]:
        """Yield the body as it is transferred; whole, even if the transfer is to break off."""
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
