"""Faults of the other side, by the words that complete a test's name."""

from tests.support.chaos import (
    GZIP_HEAD,
    Fault,
    black_hole,
    bomb_block,
    cut_answer,
    dripping_answer,
    dripping_request,
    half_closed,
    hanging,
    head,
    reset_in_answer,
    reset_in_request,
    saying,
)

FAULTS: dict[str, Fault] = {
    "drips its answer": dripping_answer(0.05),
    "drips spaces for ever": saying(head(), then=b" ", gap_s=0.02),
    "takes the request in drips": dripping_request(0.02),
    "resets within the request": reset_in_request(50),
    "resets before its answer": reset_in_answer(0),
    "resets within its answer": reset_in_answer(60),
    "closes within its head": cut_answer(20),
    "closes within its body": cut_answer(-1),
    "accepts and hangs": hanging,
    "reads and says nothing": black_hole,
    "half-closes": half_closed,
    "is no HTTP": saying(b"220 mail.example ESMTP ready\r\n"),
    "sends garbage": saying(b"\x00\xff\xfe garbage \x00\r\n\r\n"),
    "speaks TLS where none is due": saying(b"\x15\x03\x01\x00\x02\x02\x46"),
    "says 100 Continue for ever": saying(b"", then=b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "switches protocols": saying(b"HTTP/1.1 101 No\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    "never ends its headers": saying(head()[:-2], then=b"X-More: more\r\n" * 100),
    "never ends a header": saying(b"HTTP/1.1 200 OK\r\nX: ", then=b"x" * 65_536),
    "never ends its body": saying(head(), then=b"x" * 65_536),
    "never ends its chunks": saying(
        head("200 OK", "Transfer-Encoding: chunked"), then=b"10000\r\n%b\r\n" % (b" " * 65_536)
    ),
    "breaks its chunks": saying(head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\n"),
    "announces an absurd length": saying(head("200 OK", f"Content-Length: {'9' * 30}") + b"{}"),
    "announces a negative length": saying(head("200 OK", "Content-Length: -5") + b"{}"),
    "announces two lengths": saying(
        head("200 OK", "Content-Length: 2", "Content-Length: 9") + b"{}"
    ),
    "answers megabytes": saying(
        head("200 OK", "Content-Length: 400000000"), then=b"[" * 65_536
    ),
    "answers in deep JSON": saying(head("200 OK", "Content-Length: 500000") + b"[" * 500_000),
    "sends a gzip bomb": saying(
        head("200 OK", "Content-Encoding: gzip") + GZIP_HEAD, then=bomb_block() * 64
    ),
    "sends broken gzip": saying(head("200 OK", "Content-Encoding: gzip") + b"no gzip"),
    "sends half of a gzip": saying(head("200 OK", "Content-Encoding: gzip") + GZIP_HEAD),
    "packs as nobody asked": saying(head("200 OK", "Content-Encoding: br") + b"\x0b\x02\x80{}"),
    "answers 200 with nothing": saying(head("200 OK", "Content-Length: 0")),
    "answers 204": saying(head("204 No Content")),
    "answers 999": saying(head("999 What", "Content-Length: 0")),
    "redirects to another host": saying(
        head("302 Found", "Location: http://127.0.0.1:1/elsewhere", "Content-Length: 0")
    ),
    "redirects to itself": saying(head("307 Again", "Location: /2/httpapi", "Content-Length: 0")),
    "redirects to nonsense": saying(head("301 Moved", "Location: ://", "Content-Length: 0")),
}  # fmt: skip

# These yield a file: whatever arrives is its content, and its reader judges it.
CONTENTS = {
    "answers 200 with nothing", "answers in deep JSON", "answers megabytes", "never ends its body",
    "never ends its chunks", "sends a gzip bomb", "sends broken gzip", "sends half of a gzip",
    "packs as nobody asked", "drips spaces for ever",
}  # fmt: skip
